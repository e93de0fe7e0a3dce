"""Checks one model version in this process: load it, run rows every way, watch memory, time batches."""

from __future__ import annotations

import time
from bdb import BdbQuit
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from shunter.storage.errors import InvalidInput, ModelLoadError, SettingsError
from shunter.storage.model_config import Batching, ModelConfig
from shunter.storage.model_registry import read_config
from shunter.workers.checking import comparison, diagnosis
from shunter.workers.checking.examination import Examination
from shunter.workers.checking.examples import example_rows
from shunter.workers.checking.findings import Fault, Finding, Report
from shunter.workers.checking.growth import read_memory, steady_growth
from shunter.workers.checking.pipeline import Pipeline, StageError
from shunter.workers.checking.sizes import recommend, time_sizes
from shunter.workers.loaders import load_model
from shunter.workers.runner import Runner

COMPARED_ROWS = 64
"""More are not compared: each is run five times, once alone."""

SLOW_LOAD_S = 20.0
SLOW_LOAD_SHARE = 0.5
"""Loading is slow from the lesser of this and this share of [run] load_timeout_s on."""


def check_model(
    directory: Path,
    rows: Sequence[Any] | None,
    *,
    device: str = "cpu",
    max_rows: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Report:
    """Everything that is wrong with the model of a version directory.

    Without `rows`, examples are made from its declared inputs. `max_rows` is the largest batch that is
    timed, [batching] max_rows by default. `say` hears of the progress. Raises ModelConfigError for a bad
    model.toml, and SettingsError if there are no rows.
    """
    directory = directory.resolve()
    config = read_config(directory)
    given = _rows(rows, config, directory)
    report = Report(str(directory), device, rows=len(given))
    try:
        config.signature.check_rows(given)
    except InvalidInput as error:
        report.add(Finding(Fault.ROW_REFUSED, f"[signature.inputs] refuses it: {error.message}"))
        return report
    model = _load(directory, config, report, say)
    if model is None:
        return report
    if len(given) > COMPARED_ROWS:
        report.notes.append(f"the first {COMPARED_ROWS} of {len(given)} rows are compared")
    pipeline = Pipeline(model, Runner(model, device=device, dtype=config.run.dtype))
    examination = Examination(
        model, pipeline, given[:COMPARED_ROWS], report=report, directory=directory,
        tolerance=_tolerance(config), say=say,
    )  # fmt: skip
    good = examination.run()
    mutates = any(finding.code is Fault.MUTATES_INPUT for finding in report.findings)
    if good and not mutates:  # the same rows are run over and over
        try:
            _measure(pipeline, examination.fresh(good), report, limits=_limits(config, max_rows), say=say)
        except StageError as failed:
            report.add(diagnosis.of_error(failed, directory, where="in a larger batch"))
    return report


def _rows(rows: Sequence[Any] | None, config: ModelConfig, directory: Path) -> list[Any]:
    given = example_rows(config) if rows is None else list(rows)
    if not given:
        raise SettingsError(
            f"no rows to check {directory} with: give --rows FILE with one JSON row per line, "
            "or declare [signature.inputs] in model.toml",
            field="--rows",
        )
    return given


def _load(directory: Path, config: ModelConfig, report: Report, say: Callable[[str], None]) -> Any:
    say(f"loading {directory}")
    began = time.perf_counter()
    try:
        model = load_model(directory, config, report.device)
    except ModelLoadError as error:
        if isinstance(error.__cause__, BdbQuit):
            raise error.__cause__ from None
        report.add(diagnosis.of_load_error(error, directory))
        return None
    report.load_s = time.perf_counter() - began
    if report.load_s > min(SLOW_LOAD_S, SLOW_LOAD_SHARE * config.run.load_timeout_s):
        message = f"loading takes {report.load_s:.1f} s, of {config.run.load_timeout_s:g} s load_timeout_s"
        remedy = "every engine pays this at its start: load less, or raise [run] load_timeout_s"
        report.add(Finding(Fault.SLOW_TO_LOAD, f"{message}: {remedy}"))
    return model


def _tolerance(config: ModelConfig) -> float:
    return comparison.LOW_PRECISION_TOLERANCE if config.run.dtype else comparison.TOLERANCE


def _limits(config: ModelConfig, max_rows: int | None) -> Batching:
    limits = config.batching
    return replace(limits, max_rows=max_rows or limits.max_rows)


def _measure(
    pipeline: Pipeline, rows: list[Any], report: Report, *, limits: Batching, say: Callable[[str], None]
) -> None:
    """Watch memory and time sizes over the rows that fit into one batch together."""
    values = pipeline.prepare(rows)
    values = [values[index] for index in max(pipeline.groups(values), key=len)]
    length = pipeline.pad_to(values)
    most = limits.max_rows
    if limits.max_tokens and length:
        most = min(most, max(1, limits.max_tokens // length))
    say("memory over many batches")
    small = values[:most]
    readings, batches = read_memory(lambda: pipeline.forward(list(small), pad_to=length))
    grown = steady_growth(readings)
    if grown is not None:
        message = f"memory grew by {grown / 2**20:.1f} MiB, steadily, over the last of {batches} batches"
        report.add(Finding(Fault.LEAKS_MEMORY, f"{message}: keep nothing of a batch after it"))
    say(f"batches of 1 to {most} rows")
    report.timings = time_sizes(
        lambda count: pipeline.forward(list(islice(cycle(values), count)), pad_to=length), largest=most
    )
    report.recommended_rows = recommend(report.timings)
