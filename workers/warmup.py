"""Warming a model up before it takes jobs: batches of several sizes and lengths, and how long they took."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

from shunter.storage.ceiling import Ceiling
from shunter.storage.errors import ModelLoadError
from shunter.storage.model_config import Batching, ModelConfig
from shunter.workers.batch import Timing
from shunter.workers.ceilings import Ceilings
from shunter.workers.isolation import Failure, Isolated, Retry, Verdict
from shunter.workers.lane import bucket_of
from shunter.workers.lengths import bucket_name
from shunter.workers.row_bytes import bytes_in
from shunter.workers.runner import Place, Runner

log = logging.getLogger(__name__)

LONGEST_S = 60.0
SHARE_OF_LOAD_TIMEOUT = 0.5
"""Smaller batches are left out after this; the largest one of each length is always run."""

RUNS = 4
LEAST_RUNS = 2
"""Of each batch; the first is not timed, and of the others the fastest counts."""

STEP = 4
"""Each size is a quarter of the one before."""


class _Trial(NamedTuple):
    value: Any
    place: Place
    bucket: str
    rows: int


def warm_up(
    runner: Runner, config: ModelConfig, ceilings: Ceilings, *, clock: Callable[[], float] = time.perf_counter
) -> list[Ceiling]:
    """Run example rows, largest batches first, and keep the timings in the runner; raises ModelLoadError.

    Its config declares inputs. Their dimensions of any size take each of [run] warmup_lengths in turn.
    Batches keep below the ceilings; returns those that it lowered.
    """
    began = clock()
    until = began + min(LONGEST_S, SHARE_OF_LOAD_TIMEOUT * config.run.load_timeout_s)
    trials = [list(_trials(runner, config, size)) for size in config.run.warmup_lengths or (1,)]
    trier = _Trier(runner, ceilings, clock, until)
    for largest, *_ in trials:
        trier.run(largest)
    smaller = [trial for sizes in trials for trial in sizes[1:]]
    for trial in sorted(smaller, key=lambda trial: -trial.rows):
        if clock() >= until:
            log.info("warm-up: smaller batches than %d rows are left out", trial.rows + 1)
            break
        trier.run(trial)
    log.info("warm-up: %d kinds of batches in %.1f s", len(runner.timings), clock() - began)
    return trier.lowered


def _trials(runner: Runner, config: ModelConfig, size: int) -> Iterator[_Trial]:
    values = runner.preprocess([config.signature.example_row(size)])
    place = runner.places(values)[0]
    if isinstance(place, Verdict):
        _fail(1, place)
    place = replace(place, length=0) if config.batching.packed else place
    bucket = bucket_name(place.length) if place.length else bucket_of(place.key)
    rows = _most_rows(config.batching, place, values[0])
    while rows:
        yield _Trial(values[0], place, bucket, rows)
        rows = 1 if 1 < rows < STEP else rows // STEP


def _most_rows(limits: Batching, place: Place, value: Any) -> int:
    most = limits.max_rows
    if limits.max_tokens and place.length:
        most = min(most, max(1, limits.max_tokens // place.length))
    if limits.max_bytes:
        most = min(most, max(1, limits.max_bytes // bytes_in(value)))
    return most


class _Trier:
    def __init__(self, runner: Runner, ceilings: Ceilings, clock: Callable[[], float], until: float) -> None:
        self._runner = runner
        self._ceilings = ceilings
        self._clock = clock
        self._until = until
        self.lowered: list[Ceiling] = []

    def run(self, trial: _Trial) -> None:
        values, length = [trial.value] * trial.rows, trial.place.length
        seconds: list[float] = []
        while len(seconds) < LEAST_RUNS or (len(seconds) < RUNS and self._clock() < self._until):
            inputs = self._runner.gather(values, pad_to=length)
            ceiling = self._ceilings.limit(trial.bucket, length)
            began = self._clock()
            isolated = self._runner.forward(values, pad_to=length, inputs=inputs, ceiling=ceiling)
            seconds.append(self._clock() - began)
            self._judge(trial, isolated)
        # What the first run allocates, chooses and compiles says nothing of the others.
        fastest = min(seconds[1:])
        of_length = f" of length {length}" if length else ""
        log.info("warm-up: %d rows%s: %.1f ms", trial.rows, of_length, fastest * 1000)
        # Out of memory, the rows were run in parts, and the time is not one batch's.
        if isolated.forwards == 1:
            self._runner.timings.append(Timing(trial.rows, length, fastest, trial.bucket))

    def _judge(self, trial: _Trial, isolated: Isolated) -> None:
        if isinstance(isolated.results[0], Verdict):
            _fail(trial.rows, isolated.results[0])
        if isolated.ceiling is not None:
            ceiling = self._ceilings.lower(trial.bucket, isolated.ceiling, trial.place.length)
            self.lowered += [ceiling] if ceiling is not None else []


def _fail(rows: int, verdict: Verdict) -> NoReturn:
    assert isinstance(verdict, Failure | Retry)
    raise ModelLoadError(f"the warm-up batch of {rows} rows of zeros failed: {verdict.message}")
