"""Ceilings as Postgres keeps them, and as an engine that starts with them uses them."""

from __future__ import annotations

import math
from pathlib import Path

from shunter.storage.ceiling import Ceiling, RaisedCeiling
from shunter.storage.database import Database
from shunter.storage.memory_ceilings import MemoryCeilings
from shunter.workers.lane import ONLY_BUCKET
from shunter.workers.memory_kind import memory_kind
from shunter.workers.messages import MemoryFits, MemoryFull
from tests.engine_process import EngineProcess, job_of, outputs_of, write_model

# More than 30 units do not fit; a unit is a token where rows have a length, else a row. A batch takes the
# same time whatever its size: so larger ones are tried for as long as they fit.
LAWFUL = """
import time

class Model:
    def forward(self, rows):
        time.sleep(0.001)
        if sum(rows) > 30:
            raise MemoryError
        return rows
"""

LAWFUL_TOKENS = """
class Model:
    def length(self, row): return row

    def collate(self, rows, *, pad_to): return rows, pad_to

    def forward(self, batch):
        rows, pad_to = batch
        if len(rows) * pad_to > 1000:
            raise MemoryError
        return rows
"""


def test_the_lowest_ceiling_of_a_bucket_is_kept(database_url: str) -> None:
    database = Database(database_url)
    ceilings = MemoryCeilings(database)
    for rows in (16, 8, 12):
        ceilings.record("tiny", 1, Ceiling("cpu 8 GiB", "None", rows))
    ceilings.record("tiny", 1, Ceiling("cpu 8 GiB", "64", 4, 256))
    ceilings.record("tiny", 2, Ceiling("cpu 8 GiB", "None", 99))
    found = ceilings.all()
    assert set(found) == {("tiny", 1), ("tiny", 2)}
    assert set(found["tiny", 1]) == {Ceiling("cpu 8 GiB", "None", 8), Ceiling("cpu 8 GiB", "64", 4, 256)}
    database.close()


def test_a_ceiling_that_was_raised_is_what_a_restart_finds(database_url: str) -> None:
    database = Database(database_url)
    ceilings = MemoryCeilings(database)
    was, now = Ceiling("cpu 8 GiB", "None", 8), Ceiling("cpu 8 GiB", "None", 10)
    others = {Ceiling("cpu 8 GiB", "A", 8), Ceiling("cpu 4 GiB", "None", 8)}
    for ceiling in (was, *others):
        ceilings.record("tiny", 1, ceiling)
    for _ in range(2):
        ceilings.raise_up("tiny", 1, RaisedCeiling(was, now))
        assert set(ceilings.all()["tiny", 1]) == {now, *others}
    database.close()


def test_a_ceiling_that_another_engine_has_lowered_meanwhile_is_not_raised(database_url: str) -> None:
    database = Database(database_url)
    ceilings = MemoryCeilings(database)
    lower = Ceiling("cpu 8 GiB", "None", 4)
    ceilings.record("tiny", 1, lower)
    was = lower._replace(rows=8)
    ceilings.raise_up("tiny", 1, RaisedCeiling(was, was._replace(rows=10)))
    assert ceilings.all()["tiny", 1] == (lower,)
    database.close()


def test_where_tokens_are_counted_all_buckets_are_raised_together(database_url: str) -> None:
    database = Database(database_url)
    ceilings = MemoryCeilings(database)
    was = Ceiling("cpu 8 GiB", "length<=16", 8, 128)
    longer, later = Ceiling("cpu 8 GiB", "length<=64", 2, 140), Ceiling("cpu 8 GiB", "length<=32", 2, 64)
    for ceiling in (was, longer, later):
        ceilings.record("tiny", 1, ceiling)
    now = was._replace(rows=10, tokens=160)
    ceilings.raise_up("tiny", 1, RaisedCeiling(was, now))
    assert set(ceilings.all()["tiny", 1]) == {now, later}, "what was found later still holds"
    database.close()


def test_memory_runs_out_a_few_times_once_and_never_again_after_a_restart(tmp_path: Path) -> None:
    directory = write_model(tmp_path, LAWFUL)
    with EngineProcess(directory).loaded() as engine:
        jobs = [job_of([1] * 900), job_of([1] * 300)]
        assert [outputs_of(outcome) for outcome in engine.run(*jobs)] == [[1] * 900, [1] * 300]
        assert 1 <= sum(batch.ooms for batch in engine.batches) <= math.log2(256) + 2
        found = tuple(message.ceiling for message in engine.heard if isinstance(message, MemoryFull))
        assert 8 <= found[-1].rows <= 30
    with EngineProcess(directory, ceilings=found).loaded() as engine:
        assert outputs_of(engine.run_rows([1] * 900)) == [1] * 900
        assert {batch.ooms for batch in engine.batches} == {0}
        assert max(batch.rows for batch in engine.batches) <= 30


def test_a_length_that_did_not_fit_tells_how_many_rows_of_other_lengths_do(tmp_path: Path) -> None:
    rows = [length for length in (20, 40, 80, 160, 320) for _ in range(200)]
    with EngineProcess(write_model(tmp_path, LAWFUL_TOKENS)).loaded() as engine:
        for _ in range(3):
            assert outputs_of(engine.run_rows(rows)) == rows
        assert 1 <= sum(batch.ooms for batch in engine.batches) <= math.log2(256) + 2


def test_a_warm_up_that_does_not_fit_is_told_and_not_repeated(tmp_path: Path) -> None:
    code = LAWFUL.replace("sum(rows)", "len(rows)")
    config = "[run]\nwarmup = true\n[signature.inputs]\nx = {dtype = 'int8'}"
    directory = write_model(tmp_path, code, config=config)
    with EngineProcess(directory) as engine:
        found = (engine.wait_for(MemoryFull).ceiling,)
    with EngineProcess(directory, ceilings=found).loaded() as engine:
        assert not any(isinstance(message, MemoryFull) for message in engine.heard)


def test_a_model_that_asks_for_it_gets_more_memory_back_and_keeps_it(tmp_path: Path) -> None:
    directory = write_model(tmp_path, LAWFUL, config="[run]\nraise_ceilings = true")
    too_low = Ceiling(memory_kind("cpu"), ONLY_BUCKET, 8)
    with EngineProcess(directory, ceilings=(too_low,)).loaded() as engine:
        assert outputs_of(engine.run_rows([1] * 4000)) == [1] * 4000
        raised = [message.raised for message in engine.heard if isinstance(message, MemoryFits)]
        assert {batch.ooms for batch in engine.batches} == {0}
        assert sum(batch.trial for batch in engine.batches) >= len(raised) >= 2
    known: tuple[Ceiling, ...] = (too_low,)
    for one in raised:
        known = one.applied_to(known)
    with EngineProcess(directory, ceilings=known).loaded() as engine:
        assert outputs_of(engine.run_rows([1] * 900)) == [1] * 900
        assert max(batch.rows for batch in engine.batches) >= raised[-1].now.rows
