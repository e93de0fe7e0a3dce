"""How an engine loads, stops, drops, dies, and keeps what is suspect apart."""

from pathlib import Path

import pytest

from shunter.storage.job import Claim
from shunter.storage.outcome import RowFailure
from shunter.workers.messages import BatchDone, Begun, Drop, Finished, Probe, Probed, Run
from shunter.workers.spans import Span, rows_of
from tests.engine_process import (
    DOUBLE,
    FOREVER,
    GATED,
    PATIENCE_S,
    claim_of,
    job_of,
    outputs_of,
    spans_of_jobs,
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


def test_stop_finishes_what_has_begun_and_leaves_the_rest(tmp_path: Path) -> None:
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
        (finished,) = engine.stop()
        assert (finished.id, outputs_of(finished)) == (begun.id, [1, 1, 1])
        assert [batch.reason for batch in engine.batches] == ["full", "drain"]


def test_stop_while_loading_leaves_everything(tmp_path: Path) -> None:
    with start_engine(tmp_path, FOREVER) as engine:
        engine.send(Run(job_of([1])))
        assert engine.stop() == []


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
        assert engine.begun[-1] == Begun("forward", spans_of_jobs(job))


def test_a_probe_is_beside_nothing_at_any_stage_and_other_jobs_go_on(tmp_path: Path) -> None:
    code = """
    class Model:
        def preprocess(self, row): return row
        def forward(self, rows): return [row + 1 for row in rows]
        def postprocess(self, output): return output
    """
    with start_engine(tmp_path, code, "[batching]\nmax_rows = 4").loaded() as engine:
        suspect, *others = [job_of([number] * 6) for number in range(40)]
        claim = claim_of(suspect)
        probes = [(Span(claim, 1, 2),), (Span(claim, 3, 5),)]
        engine.send(Run(suspect, withheld=((1, 2), (3, 5))))
        for job in others[:20]:
            engine.send(Run(job))
        for probe in probes:
            engine.send(Probe(probe))
        for job in others[20:]:
            engine.send(Run(job))
        finished: list[Claim] = []
        probed = 0
        held: dict[str, set[tuple[Claim, int]]] = {}
        while len(finished) < 40:
            message = engine.receive()
            if isinstance(message, Finished):
                for outcome in message.outcomes:
                    finished.append(Claim(outcome.id, 1))
                    assert outputs_of(outcome) == [outputs_of(outcome)[0]] * 6
            elif isinstance(message, Probed):
                probed += 1
            elif isinstance(message, Begun):
                held[message.stage] = set(rows_of(message.spans))
                rows = set().union(*held.values())
                in_probe = set(rows_of(probes[probed] if probed < 2 else ()))
                assert not rows & in_probe or rows <= in_probe
        assert probed == 2
        assert [batch.rows for batch in engine.batches if batch.reason == "alone"] == [1, 2]


def test_guilty_rows_do_not_run_and_carry_their_verdict(tmp_path: Path) -> None:
    code = "class Model:\n    def forward(self, rows): return [1 / row for row in rows]"
    with start_engine(tmp_path, code).loaded() as engine:
        guilty = RowFailure(1, "engine_died", "it was this row")
        engine.send(Run(job_of([1, 0, 1]), guilty=(guilty,)))
        (outcome,) = engine.outcomes(1)
        assert (outputs_of(outcome), outcome.failures) == ([1.0, None, 1.0], (guilty,))
        assert [batch.forwards for batch in engine.batches] == [1]


def test_stop_leaves_a_job_whose_suspects_have_not_been_tried(tmp_path: Path) -> None:
    code = "class Model:\n    def forward(self, rows): return rows"
    with start_engine(tmp_path, code).loaded() as engine:
        engine.send(Run(job_of([1, 2, 3]), withheld=((1, 2),)))
        engine.wait_for(BatchDone)
        assert engine.stop() == []
