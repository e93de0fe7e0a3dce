"""Jobs through a real engine process, driven over its pipe as a hub would."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shunter.storage.job import ClaimedJob, JobState, Move, Priority
from shunter.storage.object_store import open_object_store
from shunter.storage.outcome import RowFailure
from shunter.storage.payload import decode_rows, encode_rows
from shunter.storage.results import input_key, load_block
from shunter.workers.messages import BatchDone, Begun, LoadFailed, Probe, Run
from shunter.workers.sizing import START_ROWS
from shunter.workers.spans import claims_of
from tests.engine_process import (
    DOUBLE,
    GATED,
    PATIENCE_S,
    EngineProcess,
    claim_of,
    job_of,
    outputs_of,
    spans_of_jobs,
    start_engine,
    write_model,
)


def test_a_model_without_torch_keeps_dtypes_and_never_imports_it(tmp_path: Path) -> None:
    with start_engine(tmp_path, DOUBLE) as engine:
        engine.loaded()
        outcome = engine.run_rows([np.arange(3, dtype=np.int16), np.ones(3, np.int16)])
        outputs = outputs_of(outcome)
        assert [(output.dtype.name, output.tolist()) for output in outputs] == [
            ("int16", [0, 2, 4]),
            ("int16", [2, 2, 2]),
        ]
        assert (outcome.move, outcome.state) == (Move.SUCCEED, JobState.SUCCEEDED)
        assert (outcome.rows_succeeded, outcome.rows_failed, outcome.failures) == (2, 0, ())
        assert outcome.forward_age_s is not None
        assert 0 <= outcome.forward_age_s < PATIENCE_S
        assert engine.stop() == []


def test_every_job_gets_its_own_outputs_however_they_are_batched(tmp_path: Path) -> None:
    with start_engine(
        tmp_path, "class Model:\n    def forward(self, rows): return [row + 1 for row in rows]"
    ) as engine:
        sizes = [1, 700, 3, 256, 1, 1, 40, 999]
        jobs = [job_of(list(range(1000 * n, 1000 * n + size))) for n, size in enumerate(sizes)]
        outcomes = engine.loaded().run(*jobs)
        for n, (size, outcome) in enumerate(zip(sizes, outcomes, strict=True)):
            assert outputs_of(outcome) == list(range(1000 * n + 1, 1000 * n + size + 1))
        assert sum(batch.rows for batch in engine.batches) == sum(sizes)
        assert max(batch.rows for batch in engine.batches) <= 256
        assert any(batch.jobs > 1 for batch in engine.batches)


def test_guilty_rows_of_a_large_job_keep_their_errors_and_the_others_their_outputs(tmp_path: Path) -> None:
    code = "class Model:\n    def forward(self, rows): return [row + 1 for row in rows]"
    with start_engine(tmp_path, code).loaded() as engine:
        guilty = RowFailure(600, "engine_died", "the engine died in it")
        engine.send(Run(job_of(list(range(700))), guilty=(guilty,)))
        (outcome,) = engine.outcomes(1)
        assert outcome.failures == (guilty,)
        assert outputs_of(outcome) == [None if row == 600 else row + 1 for row in range(700)]


GUILTY = RowFailure(0, "engine_died", "the engine died in it")

ODD: dict[str, Callable[[ClaimedJob], Run]] = {
    "all_rows_failed": lambda job: Run(job, guilty=(GUILTY,)),
    "corrupt_payload": lambda job: Run(job._replace(input=b"\0" * len(job.input or b""))),
    "expired": lambda job: Run(job._replace(deadline_in_s=0.0)),
}


@pytest.mark.parametrize("odd", [None, *ODD])
def test_jobs_of_one_array_each_get_their_own_outputs_beside_one_that_cannot_run(
    tmp_path: Path, odd: str | None
) -> None:
    with start_engine(tmp_path, DOUBLE).loaded() as engine:
        jobs = [job_of([np.full(3, number, np.float32)]) for number in range(20)]
        runs = [Run(job) for job in jobs]
        if odd is not None:
            runs[7] = ODD[odd](jobs[7])
        engine.send(*runs)
        outcomes = {outcome.id: outcome for outcome in engine.outcomes(len(jobs))}
        for number, job in enumerate(jobs):
            outcome = outcomes[job.id]
            if odd is not None and number == 7:
                assert (outcome.error or {})["code"] == odd
            else:
                (output,) = outputs_of(outcome)
                assert (output.dtype.name, output.tolist()) == ("float32", [2.0 * number] * 3)
                assert (outcome.move, outcome.rows_succeeded) == (Move.SUCCEED, 1)


def test_a_suspect_array_waits_for_its_probe_beside_jobs_that_are_alike(tmp_path: Path) -> None:
    with start_engine(tmp_path, DOUBLE).loaded() as engine:
        free, suspect = (job_of([np.ones(3, np.float32)]) for _ in range(2))
        engine.send(Run(free), Run(suspect, withheld=((0, 1),)))
        assert [outcome.id for outcome in engine.outcomes(1)] == [free.id]
        engine.send(Probe(spans_of_jobs(suspect)))
        assert [outcome.id for outcome in engine.outcomes(1)] == [suspect.id]


def test_while_the_model_is_busy_the_next_batch_fills(tmp_path: Path) -> None:
    collating = GATED + "\n        def collate(self, rows, *, pad_to): return rows\n"
    with start_engine(tmp_path, collating).loaded() as engine:
        engine.send(Run(job_of(["first"])))
        while engine.wait_for(Begun).stage != "forward":
            pass
        # Nothing is measured yet, so the first size that is tried is full.
        others = [job_of([number]) for number in range(START_ROWS)]
        for job in others:
            engine.send(Run(job))
        prefetched = Begun("gather", spans_of_jobs(*others))
        while engine.wait_for(Begun) != prefetched:
            pass
        (tmp_path / "tiny" / "1" / "gate").touch()
        batches = [engine.wait_for(BatchDone), engine.wait_for(BatchDone)]
        assert [(batch.rows, batch.reason) for batch in batches] == [(1, "idle"), (START_ROWS, "full")]


@pytest.mark.parametrize(
    ("hook", "stages"),
    [
        ("collate(self, rows, *, pad_to): return rows", ["forward"]),
        ("preprocess(self, row): return row", ["preprocess", "forward"]),
    ],
)
def test_a_lone_row_for_an_idle_model_is_gathered_where_it_is_forwarded(
    tmp_path: Path, hook: str, stages: list[str]
) -> None:
    code = f"class Model:\n    def {hook}\n    def forward(self, rows): return [row + 1 for row in rows]"
    with start_engine(tmp_path, code).loaded() as engine:
        assert [outputs_of(engine.run_rows([number])) for number in range(3)] == [[1], [2], [3]]
        assert [begun.stage for begun in engine.begun if begun.spans] == stages * 3


def test_a_model_that_promises_finite_outputs_fails_the_rows_that_are_not(tmp_path: Path) -> None:
    code = """
    import numpy as np

    class Model:
        def forward(self, rows): return np.stack(rows) * np.float32(2)
        def postprocess(self, output): return int(output[0])
    """
    with start_engine(tmp_path, code, "[run]\nfinite = true").loaded() as engine:
        outcome = engine.run_rows([np.array([x], np.float32) for x in (1.0, np.nan, 3.0)])
        assert [(failure.index, failure.code) for failure in outcome.failures] == [(1, "not_finite")]
        assert outputs_of(outcome) == [2, None, 6]


def test_a_bad_row_in_a_batch_of_256_fails_alone_in_few_forwards(tmp_path: Path) -> None:
    poisoned = "class Model:\n    def forward(self, rows): return [1 / row for row in rows]"
    with start_engine(tmp_path, poisoned).loaded() as engine:
        outcome = engine.run_rows([0 if number == 100 else 2 for number in range(256)])
        (failure,) = outcome.failures
        assert failure == RowFailure(100, "zero_division_error", "division by zero (model.py:2)")
        assert (outcome.state, outcome.rows_succeeded, outcome.rows_failed) == (JobState.SUCCEEDED, 255, 1)
        assert outputs_of(outcome) == [None if number == 100 else 0.5 for number in range(256)]
        assert engine.batches[0].forwards - 1 <= 12
        # While the search goes on, only the rows in the model are announced.
        assert engine.begun[-1] == Begun("forward", ())


@pytest.mark.parametrize("outputs", ["rows[1:]", "rows + rows", "rows[0]", "None"])
def test_a_model_that_drops_or_duplicates_never_yields_a_succeeded_row(tmp_path: Path, outputs: str) -> None:
    with start_engine(
        tmp_path, f"class Model:\n    def forward(self, rows): return {outputs}"
    ).loaded() as engine:
        outcome = engine.run_rows([1, 2, 3])
        assert (outcome.move, outcome.state, outcome.output) == (Move.FAIL, JobState.FAILED, None)
        assert [failure.code for failure in outcome.failures] == ["output_mismatch"] * 3
        assert outcome.error is not None
        assert outcome.error["code"] == "all_rows_failed"
        assert engine.batches[0].forwards == 1


def test_errors_of_preprocessing_postprocessing_and_encoding_are_the_rows_own(tmp_path: Path) -> None:
    code = """
    from shunter.workers.model import Model as Base, RowError

    class Model(Base):
        def preprocess(self, row):
            if row == "dark":
                raise RowError("too_dark", "no light in it")
            return row

        def forward(self, rows):
            return rows

        def postprocess(self, output):
            if output == "late":
                raise ValueError("too late")
            return object() if output == "odd" else output
    """
    with start_engine(tmp_path, code).loaded() as engine:
        outcome = engine.run_rows(["a", "dark", "b", "late", "odd"])
        assert [(failure.index, failure.code) for failure in outcome.failures] == [
            (1, "too_dark"),
            (3, "value_error"),
            (4, "bad_output"),
        ]
        assert outputs_of(outcome) == ["a", None, "b", None, None]
        stages = [begun.stage for begun in engine.begun if begun.spans]
        assert stages == ["preprocess", "forward", "postprocess"]
        nothing = engine.run_rows(["dark", "dark"])
        assert (nothing.state, nothing.rows_failed, len(nothing.failures)) == (JobState.FAILED, 2, 2)


def test_transient_sends_the_whole_job_back_and_counts(tmp_path: Path) -> None:
    code = """
    from shunter.workers.model import Transient

    class Model:
        def forward(self, rows):
            raise Transient(7.5, "the index is being rebuilt")
    """
    with start_engine(tmp_path, code).loaded() as engine:
        outcome = engine.run_rows([1, 2])
        assert (outcome.move, outcome.state) == (Move.RETRY, JobState.QUEUED)
        assert (outcome.retry_in_s, outcome.counts_attempt) == (7.5, True)
        assert outcome.error == {"code": "transient", "message": "the index is being rebuilt"}


def test_columns_are_split_into_rows(tmp_path: Path) -> None:
    code = """
    import numpy as np

    class Model:
        def forward(self, rows):
            array = np.array(rows, np.float32)
            return {"double": array * 2, "name": [str(row) for row in rows]}
    """
    with start_engine(tmp_path, code).loaded() as engine:
        first, second = outputs_of(engine.run_rows([1, 2]))
        assert (first["name"], second["name"]) == ("1", "2")
        assert (first["double"], first["double"].dtype) == (2.0, np.float32)


def test_input_that_cannot_be_decoded_or_found_fails_the_job(tmp_path: Path) -> None:
    with start_engine(tmp_path, DOUBLE).loaded() as engine:
        damaged, short, missing = engine.run(
            job_of([1], block=b"\xc1S no block at all"),
            job_of([1, 2, 3], block=encode_rows([1, 2])),
            job_of([1], input_key="inputs/20200101/nothing"),
        )
        codes = [(outcome.error or {}).get("code") for outcome in (damaged, short, missing)]
        assert codes == ["corrupt_payload", "corrupt_payload", "object_not_found"]
        assert {outcome.state for outcome in (damaged, short, missing)} == {JobState.FAILED}


def test_a_store_that_cannot_be_used_sends_the_job_back(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file, where the store should be a directory")
    with EngineProcess(write_model(tmp_path, DOUBLE), store=tmp_path / "objects" / "below") as engine:
        large = np.zeros(100_000, np.float32)
        (outcome,) = engine.loaded().run(job_of([large]))
        assert outcome.move in (Move.RETRY, Move.FAIL)


def test_large_inputs_and_outputs_travel_through_the_object_store(tmp_path: Path) -> None:
    store = open_object_store((tmp_path / "objects").as_uri())
    rows = [np.full(100_000, number, np.float32) for number in range(3)]
    with start_engine(tmp_path, DOUBLE).loaded() as engine:
        named = job_of(rows)
        key = input_key(named.id)
        store.put(key, encode_rows(rows))
        (outcome,) = engine.run(job_of(rows, id=named.id, epoch=4, input_key=key))
        assert outcome.output is not None
        assert outcome.output.key is not None
        assert f"/{named.id}/4-" in outcome.output.key
        outputs: list[Any] = decode_rows(load_block(store, outcome.output))
        assert [output[0] for output in outputs] == [0.0, 2.0, 4.0]


def test_a_job_whose_deadline_passed_before_its_first_forward_expires(tmp_path: Path) -> None:
    with start_engine(tmp_path, GATED).loaded() as engine:
        (late,) = engine.run(job_of([1], deadline_in_s=-0.5))
        assert (late.move, late.state, (late.error or {})["code"]) == (
            Move.EXPIRE,
            JobState.EXPIRED,
            "expired",
        )
        engine.send(Run(job_of(["in the model"])))
        engine.wait_for(Begun)
        waiting = job_of(["waiting"], deadline_in_s=0.05)
        engine.send(Run(waiting))
        # The model is still busy: it is told at once, not when its turn comes.
        (outcome,) = engine.outcomes(1)
        assert (outcome.id, outcome.state) == (waiting.id, JobState.EXPIRED)
        (tmp_path / "tiny" / "1" / "gate").touch()
        engine.outcomes(1)
        assert all(claim_of(waiting) not in claims_of(begun.spans) for begun in engine.begun)


@pytest.mark.parametrize(
    ("code", "config", "words"),
    [
        ("import nowhere_to_be_found", "", ["No module named 'nowhere_to_be_found'", "model.py", "line 1"]),
        ("class Moodel: ...", "", ["defines no class named Model"]),
        ("class Model: ...", "", ["has no forward method"]),
        ("class Model:\n  def load(self, d, v, size): ...\n  def forward(self, rows): ...", "", ["'size'"]),
        ("raise SystemExit('no licence')", "", ["no licence"]),
        ("", "", ["holds no model: put one file there"]),
        ("", "[batching]\nmax_row = 1", ["did you mean 'max_rows'?"]),
        (
            "class Model:\n  def forward(self, rows): return rows[1:]",
            "[run]\nwarmup = true\n[signature.inputs]\nx = {dtype = 'int8'}",
            ["the warm-up batch of 256 rows", "255 outputs for 256 rows"],
        ),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(
    tmp_path: Path, code: str, config: str, words: list[str]
) -> None:
    with start_engine(tmp_path, code, config) as engine:
        message = engine.wait_for(LoadFailed).message
        assert [word for word in words if word not in message] == []
        assert engine.process.wait(PATIENCE_S) == 3


def test_interactive_jobs_overtake_bulk_ones(tmp_path: Path) -> None:
    with start_engine(tmp_path, GATED, "[batching]\nmax_rows = 2").loaded() as engine:
        engine.send(Run(job_of(["in the model"])))
        engine.wait_for(Begun)
        bulk, urgent = job_of([0] * 20, priority=Priority.BULK), job_of([1], priority=Priority.INTERACTIVE)
        engine.send(Run(bulk))
        engine.send(Run(urgent))
        # A job that fails at once tells that both are in line.
        engine.run(job_of([1, 2], block=b"damaged"))
        (tmp_path / "tiny" / "1" / "gate").touch()
        order = [outcome.id for outcome in engine.outcomes(3)]
        assert order.index(urgent.id) < order.index(bulk.id)


def test_a_large_job_is_preprocessed_no_faster_than_the_model_takes_it(tmp_path: Path) -> None:
    code = """
    class Model:
        begun = done = 0

        def preprocess(self, row):
            self.begun += 1
            return row

        def forward(self, rows):
            ahead = self.begun - self.done
            self.done += len(rows)
            return [ahead] * len(rows)
    """
    with start_engine(tmp_path, code, "[batching]\nmax_rows = 64").loaded() as engine:
        ahead = outputs_of(engine.run_rows(list(range(9000))))
        # What waits in line, the bunch in hand, and a batch in the model and one prefetched.
        assert max(ahead) <= 512 + 64 + 2 * 64


def test_a_batch_is_closed_by_the_bytes_of_its_preprocessed_rows(tmp_path: Path) -> None:
    code = """
    class Model:
        def preprocess(self, row): return row.astype("int64")
        def forward(self, rows): return [int(row[0]) for row in rows]
    """
    with start_engine(tmp_path, code, "[batching]\nmax_bytes = 100").loaded() as engine:
        rows = [np.full(5, number, np.int8) for number in range(6)]
        assert outputs_of(engine.run_rows(rows)) == list(range(6))
        assert [(batch.rows, batch.reason) for batch in engine.batches[:2]] == [(2, "bytes")] * 2
