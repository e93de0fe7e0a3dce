"""Reports of scorings against real services: built once, after the end, whatever dies; and what they find."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shunter import Client
from shunter.cli import run
from shunter.producers.api import create_app
from shunter.producers.scoring.profiling import profile
from shunter.producers.scoring.request import ScoringStatus
from shunter.storage import failpoints
from shunter.storage.errors import InvalidInput, NoReport, NotFound, ReportPending, Unavailable, WaitTimeout
from shunter.storage.job_repair import JobRepair
from shunter.storage.settings import Settings
from shunter.workers.report.facts import BuiltReport, ReportFacts
from shunter.workers.scoring_reporter import DEATHS, BuildKilled, ReportFailed, ScoringReporter
from tests.api_server import client_of, serving
from tests.scoring_fleet import MODEL, ScoringFleet, scoring_fleet

ROWS = 400


@pytest.fixture
def fleet(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[ScoringFleet]:
    with scoring_fleet(database_url, redis_url, tmp_path) as fleet:
        yield fleet


@pytest.fixture
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def write_night(fleet: ScoringFleet, name: str, *, seed: int, moved: float = 0.0) -> None:
    """A night's input: a number and a word for each row."""
    generator = np.random.default_rng(seed)
    table = pa.table({"x": generator.normal(moved, 1.0, ROWS), "word": generator.choice(["a", "b"], ROWS)})
    pq.write_table(table, fleet.directory / f"{name}.parquet")


def score_night(
    fleet: ScoringFleet, name: str, *, seed: int, moved: float = 0.0, **options: Any
) -> ScoringStatus:
    """A scoring of a night, with its report if that can be built."""
    write_night(fleet, name, seed=seed, moved=moved)
    asked = {"columns": ["x", "word"], "chunk_rows": 150, **options}
    status = fleet.score(f"{name}.parquet", f"out-{name}", model=twice, **asked)
    fleet.report()
    return fleet.scorer.get(UUID(status.id))


def twice(row: Any) -> Any:
    return {"y": 2 * row["x"]}


def report_of(fleet: ScoringFleet, status: ScoringStatus) -> Any:
    return fleet.scorer.report(UUID(status.id))


def test_only_the_night_that_differs_has_drifted(fleet: ScoringFleet) -> None:
    nights = [
        score_night(fleet, f"2026-11-0{night}", seed=night, moved=moved)
        for night, moved in ((1, 0.0), (2, 0.0), (3, 2.0), (4, 2.0))
    ]
    # The fourth is as the third, with which it is compared.
    assert [night.drifted for night in nights] == [None, False, True, False]
    third = report_of(fleet, nights[2])
    assert third["drift"]["columns"] == ["input.x", "output.y"]
    assert third["drift"]["against"]["previous"]["scoring"] == nights[1].id


def test_a_profile_of_the_version_is_compared_with_first_of_all(fleet: ScoringFleet) -> None:
    write_night(fleet, "train", seed=9)
    profiled = profile(fleet.database, MODEL, str(fleet.directory / "train.parquet"))
    assert (profiled.version, profiled.rows, profiled.columns) == (1, ROWS, ["x", "word"])
    assert score_night(fleet, "1", seed=1).drifted is False
    moved = score_night(fleet, "other", seed=2, moved=2.0)
    assert (moved.drifted, report_of(fleet, moved)["drift"]["columns"]) == (True, ["input.x"])


def test_a_later_profile_replaces_the_earlier(fleet: ScoringFleet) -> None:
    for name, moved in (("far", 5.0), ("near", 0.0)):
        write_night(fleet, name, seed=9, moved=moved)
        profile(fleet.database, MODEL, str(fleet.directory / f"{name}.parquet"))
    assert score_night(fleet, "1", seed=1).drifted is False


def test_another_scoring_may_be_named_to_compare_with(fleet: ScoringFleet) -> None:
    first = score_night(fleet, "1", seed=1)
    score_night(fleet, "2", seed=2, moved=2.0)
    third = score_night(fleet, "3", seed=3, compare_to=first.id)
    assert third.drifted is False
    assert report_of(fleet, third)["drift"]["against"]["previous"]["scoring"] == first.id


def test_a_named_scoring_that_was_forgotten_meanwhile_is_told_of(fleet: ScoringFleet) -> None:
    first = score_night(fleet, "1", seed=1)
    write_night(fleet, "2", seed=2)
    begun = fleet.begin("2.parquet", "other", columns=["x", "word"], compare_to=first.id)
    with fleet.database.transaction() as cursor:
        cursor.execute("DELETE FROM scorings WHERE id = %s", (first.id,))
    status = fleet.end(begun, model=twice)
    fleet.report()
    drift = report_of(fleet, status)["drift"]
    assert (drift["missing"], drift["against"], drift["drifted"]) == (first.id, {}, None)


def test_what_cannot_be_compared_with_is_refused(fleet: ScoringFleet) -> None:
    write_night(fleet, "1", seed=1)
    begun = fleet.begin("1.parquet", columns=["x"])
    fleet.scorer.cancel(UUID(begun.id))
    for id, refusal in ((begun.id, NoReport), (str(uuid4()), NotFound), ("yesterday", InvalidInput)):
        with pytest.raises(refusal):
            fleet.begin("1.parquet", "other", columns=["x"], compare_to=id)


def test_every_row_counts_once_though_its_chunk_ran_twice(fleet: ScoringFleet) -> None:
    write_night(fleet, "1", seed=1)
    begun = fleet.begin("1.parquet", columns=["x", "word"], chunk_rows=150)
    fleet.plan()
    for job in fleet.claim():
        fleet.outcome(job, twice)  # its files are stored, and it dies before it can say so
        fleet.give_back(job)
    status = fleet.end(begun, model=twice)
    fleet.report()
    columns = {column["name"]: column for column in report_of(fleet, status)["columns"]}
    assert {name: column["rows"] for name, column in columns.items()} == {"x": ROWS, "word": ROWS, "y": ROWS}
    assert columns["x"]["measures"]["value"]["count"] == ROWS


def test_a_kill_before_the_report_is_known_leaves_the_scoring_complete(
    fleet: ScoringFleet, disarmed: None
) -> None:
    failpoints.arm("report.stored=error")
    write_night(fleet, "1", seed=1)
    status = fleet.score("1.parquet", columns=["x"], chunk_rows=150)
    with pytest.raises(Unavailable):
        fleet.report()
    assert status.state == "complete"
    with pytest.raises(ReportPending):
        report_of(fleet, status)
    failpoints.arm("")
    assert [fleet.report(), fleet.report()] == [1, 0]
    assert report_of(fleet, status)["rows"]["total"] == ROWS
    assert not list(fleet.directory.glob(".out*"))


def test_a_report_that_cannot_be_built_never_fails_the_scoring(fleet: ScoringFleet) -> None:
    def fail(_: ReportFacts) -> BuiltReport:
        raise ReportFailed("of a bug")

    fleet.reporter = fleet.new_reporter(fail)
    status = score_night(fleet, "1", seed=1)
    assert (status.state, status.drifted) == ("complete", None)
    with pytest.raises(NoReport, match="could not be built: of a bug"):
        report_of(fleet, status)
    assert not list(fleet.directory.glob(".out*"))


def test_a_report_says_what_postgres_cannot_hold(fleet: ScoringFleet) -> None:
    words = pa.table({"w": ["a\x00b\x00\x00", "\\u0000"] * 20})
    pq.write_table(words, fleet.directory / "odd.parquet")
    status = fleet.score("odd.parquet", columns=["w"], model=lambda w: float("nan"))
    assert [fleet.report(), fleet.report()] == [1, 0]
    told = orjson.dumps(report_of(fleet, status)["columns"]).decode()
    assert orjson.dumps("a\\x00b\\x00\\x00").decode() in told
    assert orjson.dumps("\\u0000").decode() in told


def test_a_report_that_postgres_refuses_is_given_up(fleet: ScoringFleet) -> None:
    def build_oddly(facts: ReportFacts) -> BuiltReport:
        built = fleet.build(facts)
        return replace(built, document={**built.document, "drift": {"drifted": "perhaps", "columns": []}})

    fleet.reporter = fleet.new_reporter(build_oddly)
    status = score_night(fleet, "1", seed=1)
    with pytest.raises(NoReport, match="it cannot be stored"):
        report_of(fleet, status)
    assert not list(fleet.directory.glob(".out*"))


def test_a_report_whose_process_is_killed_is_built_again_and_given_up_in_the_end(
    fleet: ScoringFleet,
) -> None:
    deaths = iter(range(DEATHS - 1))

    def die_at_first(facts: ReportFacts) -> BuiltReport:
        for _ in deaths:
            raise BuildKilled("killed")
        return fleet.build(facts)

    def die(_: ReportFacts) -> BuiltReport:
        raise BuildKilled("killed")

    for build, told in ((die_at_first, [1, 0]), (die, [0, 0])):
        fleet.reporter = fleet.new_reporter(build)
        write_night(fleet, build.__name__, seed=1)
        fleet.score(f"{build.__name__}.parquet", build.__name__, columns=["x"], model=lambda x: x)
        for _ in range(DEATHS - 1):
            with pytest.raises(BuildKilled):
                fleet.report()
        assert [fleet.report(), fleet.report()] == told


def test_a_hub_that_lacks_what_reports_are_built_with_leaves_them_to_another(
    fleet: ScoringFleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    poor = ScoringReporter(JobRepair(fleet.database), fleet.store, price=None, needed=["no_such_module"])
    write_night(fleet, "1", seed=1)
    fleet.score("1.parquet", columns=["x"], model=lambda x: x)
    assert [poor.run_once(), poor.run_once(), fleet.report()] == [0, 0, 1]
    assert len([line for line in caplog.messages if "no_such_module" in line]) == 1


def test_two_hubs_build_a_report_once(fleet: ScoringFleet) -> None:
    built: list[int] = []
    other = fleet.new_reporter(fleet.build)

    def build_beside_another(facts: ReportFacts) -> BuiltReport:
        built.append(other.run_once())
        return fleet.build(facts)

    fleet.reporter = fleet.new_reporter(build_beside_another)
    assert score_night(fleet, "1", seed=1).state == "complete"
    assert (built, other.run_once()) == ([0], 0)


def test_failed_rows_that_are_run_again_are_compared_with_nothing(fleet: ScoringFleet) -> None:
    write_night(fleet, "1", seed=1)
    profile(fleet.database, MODEL, str(fleet.directory / "1.parquet"))
    status = fleet.score(
        "1.parquet", columns=["x"], chunk_rows=150, model=lambda x: 1 // 0 if x > 1 else 2 * x
    )
    again = fleet.end(fleet.scorer.retry_errors(UUID(status.id), output=None, version=None))
    fleet.report()
    assert fleet.scorer.get(UUID(again.id)).drifted is None
    (failure,) = report_of(fleet, status)["failures"]
    assert (failure["code"], failure["rows"]) == ("zero_division_error", status.failed)


@pytest.fixture(params=["direct", "http"])
def client(
    request: pytest.FixtureRequest, fleet: ScoringFleet, database_url: str, redis_url: str
) -> Iterator[Client]:
    settings = Settings(
        database_url=database_url, redis_url=redis_url, object_store=fleet.directory.as_uri() + "/objects"
    )
    with client_of(request.param, settings) as client:
        yield client


def test_a_report_is_read_either_way(client: Client, fleet: ScoringFleet) -> None:
    write_night(fleet, "1", seed=1)
    begun = fleet.begin("1.parquet", columns=["x"], chunk_rows=150)
    scoring = client.scoring(begun.id)
    with pytest.raises(WaitTimeout):
        scoring.report(timeout=0)
    fleet.end(begun)
    fleet.report()
    assert scoring.report()["rows"]["succeeded"] == ROWS
    assert scoring.report_page().startswith("<!doctype html>")
    assert scoring.status().drifted is None
    with pytest.raises(NotFound):
        client.scoring(str(uuid4())).report()


def test_a_cancelled_scoring_has_no_report(client: Client, fleet: ScoringFleet) -> None:
    write_night(fleet, "1", seed=1)
    begun = fleet.begin("1.parquet", columns=["x"])
    fleet.scorer.cancel(UUID(begun.id))
    with pytest.raises(NoReport, match="is cancelled, and has no report"):
        client.scoring(begun.id).report()


def test_a_browser_gets_the_page_and_a_program_the_document(
    fleet: ScoringFleet, database_url: str, redis_url: str
) -> None:
    import httpx

    status = score_night(fleet, "1", seed=1)
    settings = Settings(
        database_url=database_url, redis_url=redis_url, object_store=fleet.directory.as_uri() + "/objects"
    )
    with serving(create_app(settings)) as url:
        place = f"{url}/v1/scorings/{status.id}/report"
        page = httpx.get(place, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        named, document = httpx.get(f"{place}.html"), httpx.get(place)
    assert page.content == named.content
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert document.json()["scoring"]["id"] == status.id


@pytest.fixture
def shell(fleet: ScoringFleet, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of a shell in which commands are given."""
    monkeypatch.setenv("SHUNTER_DATABASE_URL", database_url)
    monkeypatch.setenv("SHUNTER_REDIS_URL", redis_url)
    monkeypatch.setenv("SHUNTER_OBJECT_STORE", fleet.store.url)


def test_the_commands_show_what_there_is(
    fleet: ScoringFleet, shell: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_night(fleet, "train", seed=9)
    assert run(["models", "profile", MODEL, str(fleet.directory / "train.parquet")]) == 0
    assert capsys.readouterr().out == f"{MODEL} version 1: {ROWS} rows of x, word\n"
    status = score_night(fleet, "1", seed=1, moved=2.0)
    assert run(["report", status.id, "--output", str(fleet.directory / "report.html")]) == 0
    told = capsys.readouterr().out
    assert "drift    yes, against profile" in told
    assert "input x, value against profile: PSI" in told
    assert (fleet.directory / "report.html").read_text() == fleet.scorer.report_page(UUID(status.id))
    assert run(["report", status.id, "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)["drift"]["drifted"] is True
    assert run(["scorings"]) == 0
    assert "yes" in capsys.readouterr().out.splitlines()[1].split()
    assert run(["report", str(uuid4())]) == 1
    assert "unknown_scoring" in capsys.readouterr().err
