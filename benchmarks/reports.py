"""What a report costs a scoring, and how true it is: `python -m benchmarks.reports [--rows N]`.

Chunks pass through what an engine does to them, one after another in this process, without a fleet: read from
Parquet, a model as cheap as they come, sketched, written. So the share of the sketches is as large as can be.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.rig import say
from shunter.producers.scoring.profiling import summed_up
from shunter.storage.ids import new_id
from shunter.storage.job import ClaimedJob, Priority
from shunter.storage.scoring.chunk import Chunk, Span, encode_chunk
from shunter.storage.scoring.drift import bin_counts, distinct_quantiles, ks, psi
from shunter.storage.scoring.sketches import SKETCHED_ROWS, Measure, decode_sketches, sketch_table
from shunter.storage.scoring.sources import find_sources
from shunter.storage.scoring.spec import Spec
from shunter.storage.signature import Signature
from shunter.workers import chunk_files
from shunter.workers.assembly import JobRun
from shunter.workers.chunks import Chunks
from shunter.workers.messages import Run
from shunter.workers.report.facts import ChunkFacts, ReportFacts
from shunter.workers.report.process import build

FILE_ROWS = 1 << 20
CHUNK_ROWS = 65_536
FEATURES = 16
COLUMNS = ("x", "amount", "word")


@dataclass(slots=True)
class Clock:
    """CPU seconds by what they were spent on, whoever else is on the machine."""

    seconds: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Time the block."""
        began = time.process_time()
        yield
        self.seconds[what] += time.process_time() - began  # type: ignore[assignment]  # seconds are no counts


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reports", description=__doc__)
    parser.add_argument("--rows", type=int, default=10 * FILE_ROWS)
    rows = parser.parse_args().rows
    directory = Path(tempfile.mkdtemp(prefix="shunter-reports-"))
    try:
        _measure(directory, rows)
    finally:
        shutil.rmtree(directory)


def _measure(directory: Path, rows: int) -> None:
    table = _table(0)
    pq.write_table(table, directory / "in.parquet", row_group_size=CHUNK_ROWS)
    clock = Clock()
    _profile(directory, rows, clock, table)
    _time(chunk_files, "sketch_table", clock)
    _time(chunk_files, "encode_sketches", clock)
    chunks = [_run(directory, number, clock) for number in range(rows // CHUNK_ROWS)]
    sketches, whole = clock.seconds["sketches"], clock.seconds["whole"]
    say(f"{rows:,} rows in {whole:.1f} s of CPU; sketches {sketches / whole:.1%}")
    say(f"{sketches / rows / (len(COLUMNS) + 1) * 1e9:.0f} ns for each row of a column")
    before = _peak()
    with clock.on("report"):
        built = build(_facts(directory, chunks))
    say(f"report in {clock.seconds['report']:.1f} s, page of {len(built.page) / 1024:.0f} KiB")
    say(f"sketches: {_size(directory) / 1024:.0f} KiB a chunk, {len(built.columns) / 1024:.0f} KiB in all")
    say(f"peak RSS {before:.0f} MiB before the report, {_peak():.0f} MiB after")
    measure = decode_sketches(built.columns)["inputs"]["amount"].measures["value"]
    exact = table["amount"].to_numpy()
    _agree(measure, exact)
    _drift(measure, exact)


def _profile(directory: Path, rows: int, clock: Clock, table: pa.Table) -> None:
    """The same rows, as `shunter models profile` reads them: every one is looked at."""
    before = _peak()
    sources = find_sources(str(directory / "in.parquet")) * (rows // FILE_ROWS)
    with clock.on("profile"):
        columns, read = summed_up(_spec(directory, SKETCHED_ROWS), sources)
    spent = clock.seconds["profile"]
    say(f"profile of {read:,} rows in {spent:.1f} s of CPU")
    say(f"{spent / read / len(COLUMNS) * 1e9:.0f} ns for each row of a column")
    say(f"peak RSS {before:.0f} MiB before it, {_peak():.0f} MiB after")
    _agree(columns["amount"].measures["value"], table["amount"].to_numpy())


def _spec(directory: Path, chunk_rows: int) -> Spec:
    return Spec(
        model="cheap",
        version=1,
        input=str(directory / "in.parquet"),
        output=str(directory / "out"),
        input_format="parquet",
        output_format="parquet",
        columns=COLUMNS,
        chunk_rows=chunk_rows,
    )


def _table(seed: int) -> pa.Table:
    generator = np.random.default_rng(seed)
    flat = pa.array(generator.random(FILE_ROWS * FEATURES, dtype=np.float32))
    words = np.array([f"word {n}" for n in range(500)])
    return pa.table(
        {
            "x": pa.FixedSizeListArray.from_arrays(flat, FEATURES),
            "amount": generator.lognormal(size=FILE_ROWS),
            "word": words[np.minimum(generator.geometric(0.05, FILE_ROWS), 499)],
        }
    )


def _time(module: Any, name: str, clock: Clock) -> None:
    function = getattr(module, name)

    def timed(*arguments: Any, **named: Any) -> Any:
        with clock.on("sketches"):
            return function(*arguments, **named)

    setattr(module, name, timed)


def _run(directory: Path, number: int, clock: Clock) -> str:
    """One chunk as an engine runs it; the key of its sketches."""
    (source,) = find_sources(str(directory / "in.parquet"))
    span = Span(file=0, rows=CHUNK_ROWS, first_row=number * CHUNK_ROWS % FILE_ROWS)
    parts = (directory / "parts").as_uri()
    chunk = Chunk(
        scoring=uuid4(),
        number=number,
        source=source,
        span=span,
        spec=_spec(directory, CHUNK_ROWS),
        parts=parts,
    )
    job = ClaimedJob(
        id=new_id(),
        epoch=1,
        model="cheap",
        version=1,
        priority=Priority.BULK,
        rows=CHUNK_ROWS,
        attempts=0,
        deaths=0,
        deadline_in_s=None,
        queued_s=0.0,
        input=encode_chunk(chunk),
        input_key=None,
    )
    run = JobRun(Run(job), now=0.0)
    with clock.on("whole"):
        chunks = Chunks(Signature())
        values = chunks.open(run)
        scores = np.stack([row["x"] for row in values]).sum(axis=1)
        run.results = list(scores)
        assert run.carried is not None, "a chunk was opened; this is a bug"
        outcome = chunks.assemble(run, run.carried, now=0.0)
    assert outcome.rows_succeeded == CHUNK_ROWS, outcome
    for old in (directory / "parts").glob("rows-*"):
        old.unlink()
    return next(path.name for path in (directory / "parts").glob(f"columns-{number:06}*"))


def _facts(directory: Path, keys: list[str]) -> ReportFacts:
    nothing = {"seconds": {}, "sizes": {}, "fill": {}, "padding": {}, "reasons": {}}
    run = {"batches": 1.0, "rows": CHUNK_ROWS, **nothing}
    moment = "2026-01-01T02:00:00+00:00"
    named = {"id": "", "model": "cheap", "version": 1, "input": "", "output": ""}
    return ReportFacts(
        scoring={**named, "created_at": moment, "finished_at": moment},
        seconds=1.0,
        parts=(directory / "parts").as_uri(),
        chunks=[
            ChunkFacts(
                rows_succeeded=CHUNK_ROWS,
                rows_failed=0,
                ended_s=float(number),
                run=run,
                failures={},
                columns_key=key,
            )
            for number, key in enumerate(keys)
        ],
        references=[],
        price=None,
    )


def _agree(measure: Measure, exact: np.ndarray[Any, Any]) -> None:
    """Ranks beside what numpy says of all rows of a file."""
    ordered = np.sort(exact)
    ranks = np.linspace(0.01, 0.99, 99)
    found = np.searchsorted(ordered, measure.sketch.get_quantiles(list(ranks)), side="right") / len(ordered)
    say(f"ranks of 99 quantiles: wrong by {np.abs(found - ranks).max():.4f} at most")
    say(f"mean {measure.mean:.4f}, exact {exact.mean():.4f}")


def _drift(measure: Measure, exact: np.ndarray[Any, Any]) -> None:
    """Distances to another sample, beside what numpy says of all rows of a file."""
    ordered = np.sort(exact)
    for factor in (1.0, 1.1, 1.3, 2.0):
        other = np.random.default_rng(1).lognormal(size=len(exact)) * factor
        sketched = sketch_table({"amount": pa.array(other)}, every=8, seed=0)["amount"].measures["value"]
        edges = distinct_quantiles(measure, 10)
        indices = psi(bin_counts(sketched, edges), bin_counts(measure, edges)), _exact_psi(other, ordered)
        distances = ks(sketched, measure), _exact_ks(other, ordered)
        say(f"against {factor} times as much: PSI {indices[0]:.4f}, exact {indices[1]:.4f}")
        say(f"                         KS {distances[0]:.4f}, exact {distances[1]:.4f}")


def _exact_psi(now: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float:
    edges = np.quantile(reference, np.linspace(0.1, 0.9, 9))
    a, b = (np.bincount(np.searchsorted(edges, each), minlength=10) / len(each) for each in (now, reference))
    return float(((a - b) * np.log(a / b)).sum())


def _exact_ks(now: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float:
    both = np.concatenate([now, reference])
    ranks = (np.searchsorted(np.sort(each), both, side="right") / len(each) for each in (now, reference))
    return float(np.abs(next(ranks) - next(ranks)).max())


def _size(directory: Path) -> int:
    return next(path.stat().st_size for path in (directory / "parts").glob("columns-*"))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
