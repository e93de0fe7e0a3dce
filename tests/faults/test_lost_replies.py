"""The reply to a COMMIT is lost: what was committed is found out, never assumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from shunter import Client
from shunter.storage.errors import DatabaseUnavailable
from shunter.workers.reconciliation import RECONCILE_INTERVAL_S
from tests.faults.arena import MODEL, Arena, arena, size
from tests.faults.commit_cutter import CommitCutter

pytestmark = pytest.mark.timeout(300)

SUBMIT, CLAIM, SETTLE = b"jobs (id, ", b"not_before = NULL, envelope", b"rows_succeeded = "
"""What stands in these statements, whether for one job or for many."""

SLACK_S = 5.0


def test_a_lost_reply_to_a_settlement_or_a_claim_neither_loses_nor_doubles_a_job(tmp_path: Path) -> None:
    with cut_off(tmp_path) as (place, cutter):
        place.start_hub(database_url=cutter.url)
        settle_with_cuts(place, cutter, SETTLE)
        # Read again, never repeated.
        assert place.epochs() == {1}
        settle_with_cuts(place, cutter, CLAIM)
        # What the hub does not know it has goes back once.
        assert max(place.epochs()) == 2
        assert longest_s(place) < RECONCILE_INTERVAL_S + SLACK_S
        print(f"measured: the slowest job took {longest_s(place):.1f} s")


def settle_with_cuts(place: Arena, cutter: CommitCutter, marker: bytes) -> None:
    """Jobs whose claims or settlements are committed without a reply, and which end all the same."""
    for _ in range(size(1, 20)):
        cutter.cut_one(marker)
        place.wait(place.submit(5))
        assert not cutter.armed
    assert place.tally().sound


def test_a_submit_whose_reply_is_lost_is_accepted_once_with_a_key_or_without(tmp_path: Path) -> None:
    with cut_off(tmp_path) as (place, cutter):
        place.start_hub()
        with Client(settings=replace(place.settings, database_url=cutter.url)) as client:
            for number in range(0, size(1, 30) * 4, 4):
                accepted = [
                    submit_cut(client, cutter, number),
                    *submit_many_cut(client, cutter, number + 1),
                    submit_with_key_cut(client, cutter, number + 3),
                ]
                place.sent.update(zip(accepted, range(number, number + 4), strict=True))
        place.wait()
        assert place.tally().sound
        (stored,) = place.ask("SELECT count(*) FROM jobs")[0]
        assert stored == len(place.sent)


def submit_cut(client: Client, cutter: CommitCutter, number: int) -> UUID:
    """A lone submit reads its row again, and tells its caller nothing of it."""
    cutter.cut_one(SUBMIT)
    job = client.submit(MODEL, [number])
    assert not cutter.armed
    return UUID(job.id)


def submit_many_cut(client: Client, cutter: CommitCutter, number: int) -> list[UUID]:
    """So does a page of jobs."""
    cutter.cut_one(SUBMIT)
    jobs = client.submit_jobs(MODEL, [[number], [number + 1]])
    assert not cutter.armed
    return [UUID(job.id) for job in jobs]


def submit_with_key_cut(client: Client, cutter: CommitCutter, number: int) -> UUID:
    """With a key the caller is told to try again, and then of the job that was committed."""
    key = uuid4().hex
    cutter.cut_one(SUBMIT)
    with pytest.raises(DatabaseUnavailable):
        client.submit(MODEL, [number], idempotency_key=key)
    assert not cutter.armed
    return UUID(client.submit(MODEL, [number], idempotency_key=key).id)


@contextmanager
def cut_off(directory: Path) -> Iterator[tuple[Arena, CommitCutter]]:
    """An arena whose Postgres can also be reached through a cutter."""
    with arena(directory) as place, CommitCutter(place.settings.database_url) as cutter:
        yield place, cutter


def longest_s(place: Arena) -> float:
    """How long the slowest job took, from its commit to its end."""
    return float(
        place.ask("SELECT extract(epoch FROM max(finished_at - created_at))::float8 FROM jobs")[0][0]
    )
