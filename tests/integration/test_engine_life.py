"""How an engine loads, stops, drops, dies, and keeps what is suspect apart."""

from pathlib import Path

import pytest

from shunter.storage.job import Claim
from shunter.workers.messages import BatchDone, Begun, Drop, Finished, Run, Stop, Stopped
from tests.engine_process import (
    DOUBLE,
    FOREVER,
    GATED,
    PATIENCE_S,
    claim_of,
    job_of,
    outputs_of,
    start_engine,
)


def test_a_dropped_job_is_never_heard_of_again(tmp_path: Path) -> None:
    with start_engine(tmp_path, GATED).loaded() as engine:
        running, waiting = job_of(["running"]), job_of(["waiting"])
        engine.send(Run(running))
        engine.wait_for(Begun)
        engine.send(Run(waiting))
        engine.send(Drop(claim_of(running)))
        engine.send(Drop(claim_of(waiting)))
        # A job that fails at once tells that the drops have been read.
        engine.run(job_of([1], block=b"damaged"))
        (tmp_path / "tiny" / "1" / "gate").touch()
        after = engine.run_rows(["after"])
        assert outputs_of(after) == ["after"]
        assert len([message for message in engine.heard if isinstance(message, Finished)]) == 2
        assert sum(batch.rows for batch in engine.batches) == 2


def test_stop_finishes_what_has_begun_and_returns_the_rest(tmp_path: Path) -> None:
    code = """
    class Model:
        def length(self, row): return row
        def forward(self, rows): return rows
    """
    with start_engine(tmp_path, code, "[batching]\nmax_rows = 2\nmax_wait_s = 600").loaded() as engine:
        # Two rows of the first job fill a batch; its third and the other job would wait for long.
        begun, waiting = job_of([1, 1, 1]), job_of([100])
        engine.send(Run(begun))
        engine.send(Run(waiting))
        engine.wait_for(BatchDone)
        engine.send(Stop())
        assert outputs_of(*engine.outcomes(1)) == [1, 1, 1]
        assert engine.wait_for(Stopped).returned == (claim_of(waiting),)
        assert [batch.reason for batch in engine.batches] == ["full", "drain"]
        assert engine.process.wait(PATIENCE_S) == 0


def test_stop_while_loading_returns_everything(tmp_path: Path) -> None:
    with start_engine(tmp_path, FOREVER) as engine:
        job = job_of([1])
        engine.send(Run(job))
        assert engine.stop() == (claim_of(job),)


@pytest.mark.parametrize("loading", [True, False])
def test_an_engine_ends_when_its_hub_is_gone(tmp_path: Path, loading: bool) -> None:
    with start_engine(tmp_path, FOREVER if loading else DOUBLE) as engine:
        if not loading:
            engine.loaded()
        engine.connection.close()
        assert engine.process.wait(PATIENCE_S) == 4


def test_a_crash_inside_the_engine_ends_it_and_leaves_the_suspect_announced(tmp_path: Path) -> None:
    code = """
    import os

    class Model:
        def forward(self, rows):
            return os._exit(77) if rows[0] == "crash" else rows
    """
    with start_engine(tmp_path, code).loaded() as engine:
        engine.run_rows(["fine"])
        job = job_of(["crash"])
        engine.send(Run(job))
        assert engine.process.wait(PATIENCE_S) == 77
        while engine.connection.poll():
            try:
                engine.receive()
            except EOFError:
                break
        assert engine.begun[-1] == Begun("forward", (claim_of(job),))


def test_a_job_that_runs_alone_is_beside_nothing_at_any_stage(tmp_path: Path) -> None:
    code = """
    class Model:
        def preprocess(self, row): return row
        def forward(self, rows): return rows
        def postprocess(self, output): return output
    """
    with start_engine(tmp_path, code, "[batching]\nmax_rows = 4").loaded() as engine:
        jobs = [job_of([number] * 3) for number in range(40)]
        suspects = {claim_of(job) for job in jobs[::4]}
        for number, job in enumerate(jobs):
            engine.send(Run(job, alone=number % 4 == 0))
        finished = 0
        held: dict[str, tuple[Claim, ...]] = {}
        while finished < len(jobs):
            message = engine.receive()
            finished += len(message.outcomes) if isinstance(message, Finished) else 0
            if isinstance(message, Begun):
                held[message.stage] = message.claims
                claims = {claim for held_claims in held.values() for claim in held_claims}
                assert len(claims) == 1 or not claims & suspects
        assert sum(batch.rows for batch in engine.batches if batch.reason == "alone") == 3 * len(suspects)
