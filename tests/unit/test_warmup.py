"""Warm-up: which batches it runs, what it keeps of them, and how it fails and ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shunter.storage.errors import ModelLoadError
from shunter.storage.model_config import ModelConfig, parse
from shunter.workers.ceilings import Ceilings
from shunter.workers.runner import Runner
from shunter.workers.warmup import LEAST_RUNS, RUNS, warm_up


class Padded:
    """Tokens are numbers; remembers its batches, rows by length."""

    def __init__(self, most_rows: int | None = None) -> None:
        self.ran: list[tuple[int, int]] = []
        self.most_rows = most_rows

    def length(self, row: Any) -> int:
        return len(row)

    def collate(self, rows: list[Any], *, pad_to: int | None) -> tuple[int, int]:
        assert pad_to is not None
        return len(rows), pad_to

    def forward(self, batch: tuple[int, int]) -> list[int]:
        if self.most_rows is not None and batch[0] > self.most_rows:
            raise MemoryError
        self.ran.append(batch)
        return [0] * batch[0]


def config(**sections: Any) -> ModelConfig:
    inputs = {"inputs": {"ids": {"dtype": "int64", "shape": [-1]}}}
    return parse({"signature": inputs, **sections}, source="test")


def ticking(step_s: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += step_s


def test_the_largest_batch_of_each_length_comes_first_then_smaller_ones() -> None:
    model = Padded()
    runner = Runner(model)
    settings = config(batching={"max_rows": 32, "max_tokens": 1024}, run={"warmup_lengths": [16, 64]})
    warm_up(runner, settings, Ceilings())
    kinds = [(32, 16), (16, 64), (8, 16), (4, 64), (2, 16), (1, 16), (1, 64)]
    assert model.ran == [kind for kind in kinds for _ in range(RUNS)]
    assert [(timing.rows, timing.pad_to) for timing in runner.timings] == kinds
    assert all(timing.seconds > 0 for timing in runner.timings)


def test_no_batch_is_larger_than_its_bytes_may_be() -> None:
    model = Padded()
    warm_up(Runner(model), config(batching={"max_bytes": 1000}, run={"warmup_lengths": [16]}), Ceilings())
    assert max(model.ran) == (1000 // (8 * 16), 16)


def test_out_of_time_only_the_largest_of_each_length_are_run() -> None:
    model = Padded()
    clock = ticking(100.0)
    settings = config(batching={"max_rows": 8}, run={"warmup_lengths": [16, 64]})
    warm_up(Runner(model), settings, Ceilings(), clock=lambda: next(clock))
    assert model.ran == [(8, 16)] * LEAST_RUNS + [(8, 64)] * LEAST_RUNS


def test_what_does_not_fit_in_memory_is_no_timing_and_no_error() -> None:
    runner = Runner(Padded(most_rows=4))
    warm_up(runner, config(batching={"max_rows": 16}), Ceilings())
    assert [timing.rows for timing in runner.timings] == [4, 1]


def test_a_batch_that_fails_names_its_size() -> None:
    class Broken(Padded):
        def forward(self, batch: tuple[int, int]) -> list[int]:
            raise ValueError("no weights")

    with pytest.raises(ModelLoadError, match=r"warm-up batch of 256 rows of zeros failed: no weights"):
        warm_up(Runner(Broken()), config(), Ceilings())


def test_an_example_that_cannot_be_preprocessed_says_so() -> None:
    class Picky(Padded):
        def preprocess(self, row: Any) -> Any:
            raise ValueError("zeros are no words")

    with pytest.raises(ModelLoadError, match="zeros are no words"):
        warm_up(Runner(Picky()), config(), Ceilings())
