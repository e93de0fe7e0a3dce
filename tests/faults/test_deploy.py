"""Drain and deploy: workers come and go under load, and old and new stand side by side; nothing is lost."""

from __future__ import annotations

import base64
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import orjson
import pytest
import redis

from shunter.migrations import migrate
from shunter.storage.envelope import queue_name
from shunter.storage.job import JobState
from shunter.workers.draining import DRAIN_GRACE_S
from tests.faults.arena import MODEL, Arena, arena, pass_time, size
from tests.waiting import wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.full]

RECORDED = Path(__file__).parents[1] / "recorded" / "envelope-of-the-first-version.json"

GAP = """
SELECT extract(epoch FROM max(gap))::float8 FROM (
    SELECT at - lag(at) OVER (ORDER BY at) AS gap FROM moves
    WHERE target = 'succeeded' AND at BETWEEN to_timestamp(%s) AND to_timestamp(%s)
) AS gaps
"""

NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"

# What a next version of the schema may do to the tables that a fleet is working with.
NEXT_SCHEMA = (
    "ALTER TABLE jobs ADD COLUMN next_version_says text",
    "CREATE TABLE next_version_has (id uuid PRIMARY KEY)",
    "ALTER TABLE workers ADD COLUMN next_version_says jsonb",
    "ALTER TABLE jobs DROP COLUMN next_version_says",
)

FEED, FEED_EVERY_S = 20, 0.1


@contextmanager
def steady_load(place: Arena) -> Iterator[None]:
    """So many jobs every tenth of a second, until it ends."""
    done = threading.Event()

    def feed() -> None:
        while not done.wait(FEED_EVERY_S):
            place.submit(FEED)

    thread = threading.Thread(target=feed, name="load", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def clock(place: Arena) -> float:
    """Postgres' clock, Unix time."""
    return float(place.ask(NOW)[0][0])


def test_a_rolling_restart_under_load_loses_nothing_and_leaves_no_gap(tmp_path: Path) -> None:
    with arena(tmp_path, row_s=0.002, max_rows=32) as place:
        old = [place.start_hub() for _ in range(2)]
        with steady_load(place):
            wait_until(lambda: place.done() > 100, 60)
            began = clock(place)
            for hub in old:
                place.start_hub()
                hub.signal(signal.SIGTERM)
                hub.process.wait(DRAIN_GRACE_S)
            ended = clock(place)
        place.wait()
        gap_s = place.ask(GAP, (began, ended))[0][0]
        print(f"measured: the longest gap in {ended - began:.0f} s of rolling restarts was {gap_s:.2f} s")
        assert [hub.process.returncode for hub in old] == [0, 0]
        assert place.tally().sound
        # What was in hand was finished or given back: nobody had to be missed first.
        assert "rescued" not in (place.directory / "processes.log").read_text()


def test_a_second_sigterm_gives_back_at_once_what_has_not_finished(tmp_path: Path) -> None:
    with arena(tmp_path, row_s=600.0) as place:
        hub = place.start_hub()
        (id,) = place.submit(1)
        # What is claimed and has not reached the model goes back at the first signal already.
        wait_until(lambda: any(serving.at_work for serving in place.registry.present()[0].serves), 60)
        hub.signal(signal.SIGTERM)
        wait_until(lambda: place.registry.present()[0].state == "draining", 30)
        hub.signal(signal.SIGTERM)
        hub.process.wait(DRAIN_GRACE_S - 10)
        job = place.repository.get(id)
        assert (job.state, job.attempts, job.deaths) == (JobState.QUEUED, 0, 0)


def test_messages_of_the_first_version_are_served_beside_todays(tmp_path: Path) -> None:
    with arena(tmp_path) as place:
        place.start_hub()
        older = place.submit(4, publish=False)
        with redis.Redis.from_url(place.redis.url) as client:
            client.lpush(queue_name(MODEL), recorded(older))
        newer = place.submit(4)
        place.wait([*older, *newer])
        assert place.tally().sound
        assert place.epochs() == {1}


def recorded(ids: list[UUID]) -> bytes:
    """The message that the first version wrote, of these jobs."""
    message = orjson.loads(RECORDED.read_bytes())
    args, kwargs, embed = orjson.loads(base64.b64decode(message["body"]))
    kwargs |= {"ids": [str(id) for id in ids], "rows": len(ids)}
    body = base64.b64encode(orjson.dumps([args, kwargs, embed])).decode()
    return orjson.dumps(message | {"body": body, "headers": message["headers"] | {"id": str(uuid4())}})


def test_migrations_run_while_the_fleet_works(tmp_path: Path) -> None:
    with arena(tmp_path, row_s=0.001) as place:
        hubs = [place.start_hub() for _ in range(2)]
        with steady_load(place):
            wait_until(lambda: place.done() > 100, 60)
            for statement in NEXT_SCHEMA * size(1, 5):
                place.ask(statement.replace("next_version_has", f"next_version_{uuid4().hex}"))
                migrate(place.settings.database_url)
                pass_time(0.2)
                place.ask("ALTER TABLE workers DROP COLUMN IF EXISTS next_version_says")
        place.wait()
        assert place.tally().sound
        assert place.epochs() == {1}
        assert not any(hub.dead for hub in hubs)
