"""Scorings against real Postgres and Redis, each step of the duties and engines taken by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shunter.storage import failpoints
from shunter.storage.errors import Conflict, EmptyRows, InvalidInput, NotFound, Unavailable
from shunter.storage.job import JobState, Move
from shunter.storage.model_config import ModelConfig
from shunter.storage.outcome import Outcome
from shunter.storage.queue_depth import unfinished_versions
from shunter.storage.scoring.destination import OutputExists, open_destination
from shunter.storage.scoring.parquet import UnreadableInput
from shunter.storage.signature import Signature, TensorSpec
from shunter.workers.messages import Probe, Run
from shunter.workers.spans import Span
from tests.engine_process import claim_of, start_engine
from tests.scoring_fleet import MODEL, ScoringFleet, double, scoring_fleet, write_lines


@pytest.fixture
def fleet(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[ScoringFleet]:
    with scoring_fleet(database_url, redis_url, tmp_path) as fleet:
        yield fleet


def write_numbers(path: Path, start: int, stop: int, **columns: Any) -> Path:
    """A Parquet file with an id, a number and a name for each."""
    numbers = range(start, stop)
    table = pa.table({"id": [f"n{n}" for n in numbers], "x": list(numbers), **columns})
    pq.write_table(table, path, row_group_size=3)
    return path


def odd_one_fails(row: Any) -> Any:
    if row == 5:
        raise ValueError("5 is odd")
    return row * 2


def test_every_row_is_scored_in_its_order(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "b.parquet", 10, 17)
    write_numbers(fleet.directory / "a.parquet", 0, 10)
    status = fleet.score("*.parquet", columns=["x"], key="id")
    assert (status.state, status.total, status.succeeded, status.failed) == ("complete", 17, 17, 0)
    assert fleet.rows() == [{"id": f"n{n}", "prediction": 2 * n} for n in range(17)]
    assert fleet.errors() == []


def test_the_manifest_and_the_files_say_where_they_come_from(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 5)
    status = fleet.score("in.parquet", columns=["x"])
    manifest = fleet.manifest()
    assert [file["rows"] for file in manifest["files"]] == [4, 1]
    assert (manifest["scoring"], manifest["model"], manifest["version"]) == (status.id, "double", 1)
    facts = pq.read_metadata(fleet.directory / "out" / manifest["files"][0]["name"]).metadata
    assert (facts[b"shunter.scoring"], facts[b"shunter.version"]) == (status.id.encode(), b"1")


def test_failed_rows_stand_in_the_errors_files_alone(fleet: ScoringFleet) -> None:
    source = write_numbers(fleet.directory / "in.parquet", 0, 10)
    status = fleet.score("in.parquet", columns=["x"], key="id", model=odd_one_fails)
    assert (status.state, status.succeeded, status.failed) == ("complete", 9, 1)
    assert [row["id"] for row in fleet.rows()] == [f"n{n}" for n in range(10) if n != 5]
    (error,) = fleet.errors()
    assert error["message"].startswith("5 is odd")
    del error["message"]
    assert error == {"source": str(source), "row": 5, "key": "n5", "code": "value_error"}


def test_failed_rows_are_kept_if_asked_for(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 4, 7)
    fleet.score("in.parquet", columns=["x"], keep=["x"], keep_failed=True, model=odd_one_fails)
    assert fleet.rows() == [
        {"x": 4, "prediction": 8},
        {"x": 5, "prediction": None},
        {"x": 6, "prediction": 12},
    ]


def test_nothing_is_seen_before_the_dataset_is_whole(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 10)
    begun = fleet.begin("in.parquet", columns=["x"])
    fleet.plan()
    fleet.run(limit=2)
    fleet.finish()
    assert not (fleet.directory / "out").exists()
    assert fleet.scorer.get(UUID(begun.id)).succeeded == 8
    fleet.end(begun)
    fleet.report()
    assert len(fleet.rows()) == 10
    assert sorted(path.name for path in fleet.directory.iterdir()) == ["in.parquet", "objects", "out"]


def test_the_same_question_is_the_same_scoring(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 10)
    first = fleet.begin("in.parquet", columns=["x"])
    assert fleet.begin("in.parquet", columns=["x"]).id == first.id
    ended = fleet.end(first)
    assert fleet.begin("in.parquet", columns=["x"]) == ended


def test_force_scores_anew_and_replaces_the_output(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 10)
    first = fleet.score("in.parquet", columns=["x"])
    second = fleet.score("in.parquet", columns=["x"], force=True, model=lambda row: row * 3)
    assert second.id != first.id
    assert [row["prediction"] for row in fleet.rows()] == [3 * n for n in range(10)]
    assert fleet.manifest()["scoring"] == second.id


def test_a_changed_input_is_named(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "a.parquet", 0, 3)
    write_numbers(fleet.directory / "b.parquet", 3, 6)
    fleet.score("*.parquet", columns=["x"])
    write_numbers(fleet.directory / "b.parquet", 3, 7)
    write_numbers(fleet.directory / "c.parquet", 7, 8)
    with pytest.raises(Conflict, match=r"c\.parquet is new, .*b\.parquet has changed.*--force"):
        fleet.begin("*.parquet", columns=["x"])


def test_an_input_that_changes_meanwhile_fails_the_scoring(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 10)
    begun = fleet.begin("in.parquet", columns=["x"])
    write_numbers(fleet.directory / "in.parquet", 0, 11)
    fleet.plan()
    status = fleet.scorer.get(UUID(begun.id))
    assert (status.state, status.error and status.error["code"]) == ("failed", "input_changed")


def test_an_output_that_exists_is_refused(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 10)
    (fleet.directory / "out").mkdir()
    (fleet.directory / "out" / "precious").touch()
    with pytest.raises(OutputExists):
        fleet.begin("in.parquet", columns=["x"])


def test_what_appears_at_the_output_meanwhile_is_not_replaced(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 10)
    begun = fleet.begin("in.parquet", columns=["x"])
    (fleet.directory / "out").mkdir()
    (fleet.directory / "out" / "precious").touch()
    status = fleet.end(begun)
    assert (status.state, status.error and status.error["code"]) == ("failed", "output_exists")
    assert [path.name for path in (fleet.directory / "out").iterdir()] == ["precious"]


def test_two_scorings_never_write_to_one_place(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "a.parquet", 0, 3)
    write_numbers(fleet.directory / "b.parquet", 3, 6)
    fleet.begin("a.parquet", columns=["x"])
    with pytest.raises(Conflict, match="another scoring writes"):
        fleet.begin("b.parquet", columns=["x"])


@pytest.mark.parametrize(
    ("input", "options", "refusal"),
    [
        ("missing.parquet", {}, (NotFound, "no file is at")),
        ("empty.parquet", {}, (EmptyRows, "there is no row")),
        ("torn.parquet", {}, (UnreadableInput, "cannot be read as Parquet")),
        ("*.parquet", {}, (InvalidInput, "differs|cannot be read")),
        ("in.parquet", {"columns": ["z"]}, (InvalidInput, "no column 'z': it has id, x")),
        ("in.parquet", {"key": "idd"}, (InvalidInput, "did you mean 'id'")),
        ("in.dat", {}, (InvalidInput, "does not tell its format")),
        ("in.parquet", {"max_errors": "many"}, (InvalidInput, "give a number of rows")),
    ],
)
def test_what_cannot_be_scored_is_refused_before_work_starts(
    fleet: ScoringFleet, input: str, options: dict[str, Any], refusal: tuple[type[Exception], str]
) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 3)
    write_numbers(fleet.directory / "empty.parquet", 0, 0)
    (fleet.directory / "torn.parquet").write_bytes(b"PAR1 nothing of the kind PAR1")
    (fleet.directory / "in.dat").write_bytes(b"1")
    kind, told = refusal
    with pytest.raises(kind, match=told):
        fleet.begin(input, **options)
    assert fleet.scorer.find() == []


def test_files_with_different_columns_are_refused(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "a.parquet", 0, 3)
    write_numbers(fleet.directory / "b.parquet", 3, 6, y=[1, 2, 3])
    with pytest.raises(InvalidInput, match=r"b\.parquet differs from .*a\.parquet"):
        fleet.begin("*.parquet", columns=["x"])


def test_too_many_errors_stop_a_scoring(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 100)
    begun = fleet.begin("in.parquet", columns=["x"], max_errors="3")
    fleet.plan()
    fleet.run(lambda row: 1 // 0, limit=1)
    fleet.plan()
    status = fleet.scorer.get(UUID(begun.id))
    assert (status.state, status.error and status.error["code"]) == ("failed", "too_many_errors")
    assert fleet.claim() == []


def test_a_share_of_errors_may_be_allowed(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 10)
    status = fleet.score("in.parquet", columns=["x"], max_errors="10%", model=odd_one_fails)
    assert (status.state, status.failed) == ("complete", 1)


def test_a_version_is_needed_until_the_scorings_of_it_have_ended(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 10)
    begun = fleet.begin("in.parquet", columns=["x"])
    fleet.publish(2)
    assert unfinished_versions(fleet.database, MODEL) == {1}
    assert unfinished_versions(fleet.database, "other") == set()
    fleet.end(begun)
    assert unfinished_versions(fleet.database, MODEL) == set()


def test_a_mended_version_clears_the_errors(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 30)
    first = fleet.score(
        "in.parquet", columns=["x"], key="id", model=lambda row: row * 2 if row % 7 else 1 // 0
    )
    fleet.publish(2)
    begun = fleet.scorer.retry_errors(UUID(first.id), output=None, version=None)
    assert (begun.version, begun.total) == (2, first.failed)
    status = fleet.end(begun)
    assert (status.state, status.succeeded, status.failed) == ("complete", 5, 0)
    assert fleet.rows("out/retry-v2") == [{"id": f"n{n}", "prediction": 2 * n} for n in range(0, 30, 7)]


def test_rows_that_fail_again_can_be_retried_again(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 30)
    first = fleet.score("in.parquet", columns=["x"], model=lambda row: row * 2 if row % 7 else 1 // 0)
    fleet.publish(2)
    second = fleet.end(
        fleet.scorer.retry_errors(UUID(first.id), output=None, version=None),
        model=lambda row: row * 2 if row != 14 else 1 // 0,
    )
    assert second.failed == 1
    fleet.publish(3)
    third = fleet.end(fleet.scorer.retry_errors(UUID(second.id), output=None, version=None))
    assert (third.succeeded, third.failed) == (1, 0)
    assert fleet.rows("out/retry-v2/retry-v3") == [{"prediction": 28}]


def test_a_chunk_that_fails_as_a_whole_is_told_row_by_row(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 6)
    begun = fleet.begin("in.parquet", columns=["x"])
    fleet.plan()
    (job,) = fleet.claim(limit=1)
    dead = Outcome(
        id=job.id,
        epoch=job.epoch,
        move=Move.FAIL,
        rows_failed=job.rows,
        error={"code": "engine_died", "message": "it died"},
    )
    fleet.jobs.settle([dead], worker=fleet.worker)
    status = fleet.end(begun)
    assert (status.state, status.succeeded, status.failed) == ("complete", 2, 4)
    assert [(line["row"], line["code"]) for line in fleet.errors()] == [
        (row, "engine_died") for row in range(4)
    ]


def test_cancelling_ends_the_chunks_and_removes_the_parts(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 20)
    begun = fleet.begin("in.parquet", columns=["x"])
    fleet.plan()
    fleet.run(limit=1)
    cancelled = fleet.scorer.cancel(UUID(begun.id))
    assert cancelled.state == "cancelled"
    assert {job.state for job in fleet.jobs.find()} == {JobState.SUCCEEDED, JobState.CANCELLED}
    assert [path.name for path in fleet.directory.iterdir()] == ["in.parquet"]
    with pytest.raises(Conflict):
        fleet.scorer.cancel(UUID(fleet.score("in.parquet", columns=["x"], output="other").id))


def test_only_so_many_chunks_are_on_their_way(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 1000)
    fleet.begin("in.parquet", columns=["x"], chunk_rows=1)
    fleet.plan()
    assert len(fleet.jobs.find(state=JobState.QUEUED, limit=1000)) == 128
    fleet.run(limit=5)
    assert fleet.plan() == 5


def test_a_hub_that_runs_a_chunk_twice_publishes_it_once(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 8)
    begun = fleet.begin("in.parquet", columns=["x"])
    fleet.plan()
    first = fleet.claim()
    with fleet.database.transaction() as cursor:
        cursor.execute("UPDATE jobs SET state = 'queued', worker = NULL")
    fleet.run(double)
    assert {job.epoch for job in fleet.jobs.find()} == {first[0].epoch + 1}
    fleet.end(begun)
    assert [row["prediction"] for row in fleet.rows()] == [2 * n for n in range(8)]


def test_outputs_that_are_dicts_become_columns(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 1, 3)
    fleet.score("in.parquet", columns=["x"], keep=["x"], model=lambda row: {"x": -row, "big": row > 1})
    assert fleet.rows() == [
        {"x": 1, "prediction_x": -1, "big": False},
        {"x": 2, "prediction_x": -2, "big": True},
    ]


def test_parts_of_different_types_end_up_alike(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 8)
    fleet.score("in.parquet", columns=["x"], model=lambda row: row if row < 4 else row / 2)
    schemas = {pq.read_schema(path) for path in (fleet.directory / "out").glob("*.parquet")}
    assert len(schemas) == 1
    assert [row["prediction"] for row in fleet.rows()] == [0, 1, 2, 3, 2.0, 2.5, 3.0, 3.5]


@pytest.fixture
def armed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_a_kill_after_publishing_is_made_good(fleet: ScoringFleet, armed: None) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 10)
    begun = fleet.begin("in.parquet", columns=["x"])
    fleet.plan()
    fleet.run()
    fleet.plan()
    failpoints.arm("dataset.published=error")
    with pytest.raises(Unavailable):
        fleet.finish()
    seen = fleet.manifest()
    assert fleet.scorer.get(UUID(begun.id)).state == "running"
    failpoints.arm("")
    assert (fleet.finish(), fleet.scorer.get(UUID(begun.id)).state) == (1, "complete")
    assert fleet.manifest() == seen


def test_a_kill_among_the_parts_is_made_good(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 10)
    begun = fleet.begin("in.parquet", columns=["x"])
    fleet.plan()
    fleet.run()
    destination = open_destination(str(fleet.directory / "out"), UUID(begun.id))
    parts = Path(urlsplit(destination.parts).path)
    (stored,) = (path.name for path in parts.glob("rows-000001.1-*.parquet"))
    destination.take(stored, "part-000001.parquet")
    fleet.end(begun)
    assert [row["prediction"] for row in fleet.rows()] == [2 * n for n in range(10)]


def test_a_kill_before_the_push_leaves_chunks_to_the_relay(fleet: ScoringFleet, armed: None) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 10)
    begun = fleet.begin("in.parquet", columns=["x"])
    failpoints.arm("plan.committed=error")
    with pytest.raises(Unavailable):
        fleet.plan()
    failpoints.arm("")
    assert len(fleet.jobs.find(state=JobState.QUEUED)) == 3
    assert fleet.plan() == 0
    assert fleet.end(begun).succeeded == 10


def test_two_planners_plan_each_chunk_once(fleet: ScoringFleet) -> None:
    write_numbers(fleet.directory / "in.parquet", 0, 400)
    begun = fleet.begin("in.parquet", columns=["x"])
    rounds = [threading.Thread(target=fleet.plan) for _ in range(4)]
    for thread in rounds:
        thread.start()
    for thread in rounds:
        thread.join()
    fleet.plan()
    assert len(fleet.jobs.find(limit=1000)) == 100
    assert fleet.end(begun).succeeded == 400


def test_a_signature_names_the_columns_and_refuses_rows(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    config = ModelConfig(signature=Signature(inputs={"x": TensorSpec("int64")}))
    write_lines(tmp_path / "in.jsonl", [b'{"x": 1, "y": 2}', b'{"x": "no"}', b'{"x": 3, "y": 4}'])
    with scoring_fleet(database_url, redis_url, tmp_path, config) as fleet:
        fleet.score("in.jsonl")
        assert [row["prediction"] for row in fleet.rows()] == [2, 6]
        (error,) = fleet.errors()
        assert (error["row"], error["code"]) == (1, "invalid_input")
        assert error["message"].startswith("input 'x' holds 'no'")


@pytest.mark.parametrize("spec", [TensorSpec("float32", (2,)), TensorSpec("any", (2,))])
def test_lists_reach_the_model_as_arrays(
    database_url: str, redis_url: str, tmp_path: Path, spec: TensorSpec
) -> None:
    pq.write_table(pa.table({"x": [[0.5, 1.0], [1.5, 2.0]]}), tmp_path / "in.parquet")
    config = ModelConfig(signature=Signature(inputs={"x": spec}))
    with scoring_fleet(database_url, redis_url, tmp_path, config) as fleet:
        status = fleet.score("in.parquet", model=lambda row: str(row.dtype))
        assert status.failed == 0
        expected = "float32" if spec.dtype == "float32" else "float64"
        assert [row["prediction"] for row in fleet.rows()] == [expected] * 2


def test_bad_rows_of_a_suspect_chunk_fail_once_and_reach_no_model(
    fleet: ScoringFleet, tmp_path: Path
) -> None:
    (fleet.directory / "in.jsonl").write_text('{"x": 1}\nnot json\n{"x": 3}\n')
    fleet.begin("in.jsonl", columns=["x"])
    fleet.plan()
    (chunk,) = fleet.claim()
    code = "class Model:\n    def forward(self, rows): return [2 * row for row in rows]"
    with start_engine(tmp_path / "engine", code).loaded() as engine:
        engine.send(Run(chunk, withheld=((0, 3),)))
        engine.send(Probe((Span(claim_of(chunk), 0, 3),)))
        (outcome,) = engine.outcomes(1)
        assert (outcome.rows_succeeded, outcome.rows_failed) == (2, 1)
        assert sum(batch.rows for batch in engine.batches) == 2


def test_bad_rows_of_a_large_chunk_reach_no_model_and_the_others_keep_their_order(
    fleet: ScoringFleet, tmp_path: Path
) -> None:
    lines = [b"not json" if number in (0, 700, 1499) else b'{"x": %d}' % number for number in range(1500)]
    write_lines(fleet.directory / "in.jsonl", lines)
    fleet.begin("in.jsonl", columns=["x"], chunk_rows=1500)
    fleet.plan()
    (chunk,) = fleet.claim()
    code = "class Model:\n    def forward(self, rows): return [2 * row for row in rows]"
    with start_engine(tmp_path / "engine", code).loaded() as engine:
        (outcome,) = engine.run(chunk)
        assert (outcome.rows_succeeded, outcome.rows_failed) == (1497, 3)
        assert sum(batch.rows for batch in engine.batches) == 1497
    fleet.jobs.settle([outcome], worker=fleet.worker)
    assert fleet.finish() == 1
    assert [row["prediction"] for row in fleet.rows()] == [
        2 * n for n in range(1500) if n not in (0, 700, 1499)
    ]
    assert [error["row"] for error in fleet.errors()] == [0, 700, 1499]


def test_files_may_be_rows_and_the_same_files_are_the_same_scoring(fleet: ScoringFleet) -> None:
    folder = fleet.directory / "im ages"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "deep/c.txt"):
        (folder / name).write_text(name)
    (folder / ".hidden").write_text("nobody's row")
    begun = fleet.begin("im ages", input_format="files")
    assert fleet.begin("im ages", input_format="files").id == begun.id
    # In an engine the bytes would stand there by now.
    fleet.end(begun, model=lambda row: row["$ref"].removeprefix(f"{fleet.directory.as_uri()}/"))
    assert fleet.rows() == [
        {"path": str(folder / name), "prediction": f"im%20ages/{name}"}
        for name in ("a.txt", "b.txt", "deep/c.txt")
    ]
    (folder / "b.txt").write_text("changed")
    with pytest.raises(OutputExists):
        fleet.begin("im ages", input_format="files")


def test_a_column_to_be_fetched_is_one_of_the_rows(fleet: ScoringFleet) -> None:
    pq.write_table(pa.table({"url": ["s3://b/1", None], "x": [1, 2]}), fleet.directory / "in.parquet")
    status = fleet.score("in.parquet", columns=["url", "x"], fetch=["url"], model=lambda row: row)
    assert (status.succeeded, status.failed) == (1, 1)
    with pytest.raises(InvalidInput, match="fetch names 'url', which is none of the columns"):
        fleet.begin("in.parquet", "other", columns=["x"], fetch=["url"])
