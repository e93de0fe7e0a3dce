"""Preprocessing in child processes of an engine: order, errors of single rows, and deaths."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from shunter.workers.messages import Begun, LoadFailed, Run
from tests.engine_process import PATIENCE_S, EngineProcess, job_of, outputs_of, spans_of_jobs, start_engine
from tests.waiting import wait_until

TWO = "[run]\npreprocess_processes = 2"

# Only the children's model has been loaded by load_preprocess, and each row says which process saw it.
TOLD = """
    import os, time

    class Model:
        def load(self, directory, device, offset):
            self.offset = None

        def load_preprocess(self, directory, offset):
            self.directory, self.offset = directory, offset

        def preprocess(self, row):
            if row == "sleep":
                (self.directory / f"asleep-{os.getpid()}").touch()
                time.sleep(600)
            if row == "bad":
                raise ValueError("no number")
            if row == "die":
                os._exit(9)
            if row == "odd":
                return lambda: None
            return [os.getpid(), row + self.offset]

        def forward(self, rows):
            return [[os.getpid(), *row] for row in rows]
"""
PARAMS = TWO + "\n[params]\noffset = 100"


def test_rows_keep_their_order_and_are_preprocessed_in_several_other_processes(tmp_path: Path) -> None:
    with start_engine(tmp_path, TOLD, PARAMS).loaded() as engine:
        rows = outputs_of(engine.run_rows(list(range(600))))
        assert [row[2] for row in rows] == list(range(100, 700))
        assert {row[0] for row in rows} == {engine.process.pid}
        preprocessed_in = {row[1] for row in rows}
        assert preprocessed_in <= set(children(engine))
        assert len(preprocessed_in) == 2
        assert outputs_of(engine.run_rows([1]))[0][2] == 101


def test_an_error_in_a_child_is_its_rows_alone(tmp_path: Path) -> None:
    with start_engine(tmp_path, TOLD, PARAMS).loaded() as engine:
        outcome = engine.run_rows([1, "bad", 2, "odd", 3])
        assert [(failure.index, failure.code) for failure in outcome.failures] == [
            (1, "value_error"),
            (3, "bad_preprocess"),
        ]
        assert [row and row[2] for row in outputs_of(outcome)] == [101, None, 102, None, 103]


def test_a_child_that_dies_ends_the_engine_and_leaves_the_suspect_announced(tmp_path: Path) -> None:
    with start_engine(tmp_path, TOLD, PARAMS).loaded() as engine:
        engine.run_rows([1])
        job = job_of(["die"])
        engine.send(Run(job))
        assert engine.process.wait(PATIENCE_S) == 1
        while engine.connection.poll():
            try:
                engine.receive()
            except EOFError:
                break
        assert engine.begun[-1] == Begun("preprocess", spans_of_jobs(job))


def test_children_end_with_their_engine_whatever_they_are_at(tmp_path: Path) -> None:
    with start_engine(tmp_path, TOLD, PARAMS).loaded() as engine:
        started = [psutil.Process(pid) for pid in children(engine)]
        assert len(started) == 2
        engine.send(Run(job_of(["sleep", "sleep"])))
        wait_until(lambda: len(list(tmp_path.glob("tiny/1/asleep-*"))) == 2)
        engine.process.kill()
        wait_until(lambda: all(map(has_ended, started)))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "class Model:\n  def forward(self, rows): ...",
            "the model does not preprocess",
        ),
        (
            """
            class Model:
                def load_preprocess(self, directory): raise OSError("no vocabulary")
                def preprocess(self, row): ...
                def forward(self, rows): ...
            """,
            "in a preprocessing process: ",
        ),
        (
            """
            class Model:
                def load_preprocess(self, directory): import os; os._exit(9)
                def preprocess(self, row): ...
                def forward(self, rows): ...
            """,
            "a preprocessing process ended with exit code 9 while loading",
        ),
    ],
)
def test_a_model_that_children_cannot_load_says_why(tmp_path: Path, code: str, words: str) -> None:
    with start_engine(tmp_path, code, TWO) as engine:
        assert words in engine.wait_for(LoadFailed).message


def children(engine: EngineProcess) -> list[int]:
    return [child.pid for child in psutil.Process(engine.process.pid).children()]


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
