"""Warming a model up before it takes jobs: batches of several sizes and lengths, and how long they took."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from shunter.storage.errors import ModelLoadError
from shunter.storage.model_config import Batching, ModelConfig
from shunter.workers.isolation import Failure, Retry, Verdict
from shunter.workers.runner import Place, Runner, Timing

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
    rows: int


def warm_up(runner: Runner, config: ModelConfig, *, clock: Callable[[], float] = time.perf_counter) -> None:
    """Run example rows, largest batches first, and leave the timings on the runner; raises ModelLoadError.

    Its config declares inputs. Their dimensions of any size take each of [run] warmup_lengths in turn.
    """
    began = clock()
    until = began + min(LONGEST_S, SHARE_OF_LOAD_TIMEOUT * config.run.load_timeout_s)
    trials = [list(_trials(runner, config, size)) for size in config.run.warmup_lengths or (1,)]
    for largest, *_ in trials:
        _run(runner, largest, clock, until)
    smaller = [trial for sizes in trials for trial in sizes[1:]]
    for trial in sorted(smaller, key=lambda trial: -trial.rows):
        if clock() >= until:
            log.info("warm-up: smaller batches than %d rows are left out", trial.rows + 1)
            break
        _run(runner, trial, clock, until)
    log.info("warm-up: %d kinds of batches in %.1f s", len(runner.timings), clock() - began)


def _trials(runner: Runner, config: ModelConfig, size: int) -> Iterator[_Trial]:
    values = runner.preprocess([config.signature.example_row(size)])
    place = runner.places(values)[0]
    if isinstance(place, Verdict):
        _fail(1, place)
    rows = _most_rows(config.batching, place)
    while rows:
        yield _Trial(values[0], place, rows)
        rows = 1 if 1 < rows < STEP else rows // STEP


def _most_rows(limits: Batching, place: Place) -> int:
    if limits.max_tokens and place.tokens:
        return min(limits.max_rows, max(1, limits.max_tokens // place.tokens))
    return limits.max_rows


def _run(runner: Runner, trial: _Trial, clock: Callable[[], float], until: float) -> None:
    values = [trial.value] * trial.rows
    seconds: list[float] = []
    while len(seconds) < LEAST_RUNS or (len(seconds) < RUNS and clock() < until):
        inputs = runner.gather(values, pad_to=trial.place.tokens)
        began = clock()
        isolated = runner.forward(values, pad_to=trial.place.tokens, inputs=inputs)
        seconds.append(clock() - began)
        if isinstance(isolated.results[0], Verdict):
            _fail(trial.rows, isolated.results[0])
    # What the first run allocates, chooses and compiles says nothing of the others.
    fastest = min(seconds[1:])
    length = f" of length {trial.place.tokens}" if trial.place.tokens else ""
    log.info("warm-up: %d rows%s: %.1f ms", trial.rows, length, fastest * 1000)
    # Out of memory, the rows were run in parts, and the time is not one batch's.
    if isolated.forwards == 1:
        runner.timings.append(Timing(trial.rows, trial.place.tokens, fastest))


def _fail(rows: int, verdict: Verdict) -> NoReturn:
    assert isinstance(verdict, Failure | Retry)
    raise ModelLoadError(f"the warm-up batch of {rows} rows of zeros failed: {verdict.message}")
