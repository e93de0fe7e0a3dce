"""What scorings leave in Postgres and in the object store goes when it is old, and their datasets stay."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from shunter.producers.scoring.staging import stage
from shunter.storage.errors import NotFound
from shunter.storage.job_repair import JobRepair
from shunter.storage.job_retention import Keep
from shunter.storage.object_store import open_object_store
from shunter.storage.scoring.retention import ScoringRetention
from shunter.storage.settings import DAY_S
from shunter.workers.scoring_retention import ForgetScorings
from tests.scoring_fleet import ScoringFleet, scoring_fleet, write_lines

KEEP = Keep(keep_s=7 * DAY_S, keep_failed_s=30 * DAY_S)


@pytest.fixture
def fleet(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[ScoringFleet]:
    with scoring_fleet(database_url, redis_url, tmp_path) as fleet:
        yield fleet


def forget(fleet: ScoringFleet) -> int:
    store = open_object_store((fleet.directory / "objects").as_uri())
    retention = ScoringRetention(fleet.database, store, KEEP)
    return ForgetScorings(JobRepair(fleet.database), retention).run_once()


def grow_old(fleet: ScoringFleet, id: str, days: int) -> None:
    with fleet.database.transaction() as cursor:
        ago = "UPDATE scorings SET finished_at = now() - make_interval(days => %s) WHERE id = %s"
        cursor.execute(ago, (days, id))


def numbers(fleet: ScoringFleet) -> None:
    write_lines(fleet.directory / "in.jsonl", [b"%d" % n for n in range(10)])


def test_an_old_scoring_is_forgotten_and_its_dataset_stays(fleet: ScoringFleet) -> None:
    numbers(fleet)
    old, young = fleet.score("in.jsonl"), fleet.score("in.jsonl", "young")
    grow_old(fleet, old.id, days=8)
    assert forget(fleet) == 1
    with pytest.raises(NotFound):
        fleet.scorer.get(UUID(old.id))
    assert len(fleet.rows()) == 10
    assert fleet.scorer.get(UUID(young.id)).succeeded == 10
    with fleet.database.transaction() as cursor:
        cursor.execute("SELECT DISTINCT scoring::text FROM scoring_chunks")
        assert cursor.fetchall() == [(young.id,)]


def test_what_a_failed_scoring_has_staged_goes_with_it_and_later(fleet: ScoringFleet) -> None:
    numbers(fleet)
    failed = fleet.score("in.jsonl", model=lambda row: 1 // row, max_errors="0")
    staging = fleet.directory / f".out.{failed.id}"
    assert failed.state == "failed"
    grow_old(fleet, failed.id, days=8)
    assert (forget(fleet), staging.exists()) == (0, True)
    grow_old(fleet, failed.id, days=31)
    assert (forget(fleet), staging.exists()) == (1, False)


def test_an_old_scoring_is_kept_while_its_failed_rows_run_again(fleet: ScoringFleet) -> None:
    numbers(fleet)
    first = fleet.score("in.jsonl", model=lambda row: 1 // row)
    again = fleet.scorer.retry_errors(UUID(first.id), output=None, version=None)
    grow_old(fleet, first.id, days=8)
    assert forget(fleet) == 0
    assert fleet.end(again).succeeded == 1
    assert forget(fleet) == 1


def test_staged_rows_go_once_no_scoring_names_them(fleet: ScoringFleet) -> None:
    objects = fleet.directory / "objects"
    store = open_object_store(objects.as_uri())
    named, unnamed, young = (stage([{"x": n}], store) for n in range(3))
    scored = fleet.score(named, columns=["x"])
    for place in (named, unnamed):
        for file in Path(place.removeprefix("file://")).iterdir():
            os.utime(file, (0, 0))
    assert forget(fleet) == 1
    left = {path.name for path in (objects / "scoring-inputs").iterdir()}
    assert left == {place.rpartition("/")[2] for place in (named, young)}
    grow_old(fleet, scored.id, days=8)
    assert forget(fleet) == 2


def test_the_same_rows_are_staged_once_and_are_the_same_scoring(fleet: ScoringFleet) -> None:
    store = open_object_store((fleet.directory / "objects").as_uri())
    rows = [{"x": n} for n in range(5)]
    first, second = stage(rows, store), stage(iter(rows), store)
    assert first == second
    assert stage(rows[:4], store) != first
    assert fleet.begin(first, columns=["x"]).id == fleet.begin(second, columns=["x"]).id
