"""The report's JSON document: what happened, and what columns were like; `docs/reports.md` explains it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from shunter.storage.scoring.chunk_figures import sum_figures
from shunter.storage.scoring.drift import ALPHA, LEAST_KS, LEAST_PSI
from shunter.storage.scoring.sketches import DISTINCT_ERROR, FREQUENCY_ERROR, RANK_ERROR, Sketches
from shunter.workers.report.columns import column_documents
from shunter.workers.report.facts import ChunkFacts, ReportFacts

VERSION = 1

MOST_PARTS = 40
"""Time is divided into so many parts at most, and has some chunks in each."""

CHUNKS_PER_PART = 3


def report_document(
    facts: ReportFacts, columns: Mapping[str, Sketches], references: Mapping[str, Mapping[str, Sketches]]
) -> dict[str, Any]:
    """The whole document; `columns` are the merged sketches of inputs and outputs."""
    told = column_documents(columns, references)
    rows = sum(chunk.rows_succeeded + chunk.rows_failed for chunk in facts.chunks)
    compared = [column for column in told if column["distances"]]
    return {
        "version": VERSION,
        "scoring": dict(facts.scoring),
        "seconds": facts.seconds,
        "rows": {
            "total": rows,
            "succeeded": sum(chunk.rows_succeeded for chunk in facts.chunks),
            "failed": sum(chunk.rows_failed for chunk in facts.chunks),
        },
        "failures": _failures(facts.chunks),
        "throughput": _throughput(facts),
        **_batches(facts, rows),
        "drift": {
            "drifted": any(column["drifted"] for column in compared) if compared else None,
            "columns": [f"{column['side']}.{column['name']}" for column in compared if column["drifted"]],
            "against": {reference.name: dict(reference.facts) for reference in facts.references},
            "missing": facts.missing,
            "limits": {"psi": LEAST_PSI, "ks": LEAST_KS, "alpha": ALPHA},
        },
        "columns": told,
        "accuracy": {
            "rank_error": RANK_ERROR,
            "distinct_error": DISTINCT_ERROR,
            "frequency_error": FREQUENCY_ERROR,
        },
    }


def _failures(chunks: Sequence[ChunkFacts]) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter()
    messages: dict[str, str] = {}
    for chunk in chunks:
        for code, (count, message) in chunk.failures.items():
            counts[code] += count
            messages.setdefault(code, message)
    return [{"code": code, "rows": rows, "example": messages[code]} for code, rows in counts.most_common()]


def _throughput(facts: ReportFacts) -> dict[str, Any]:
    """Rows that ended in each of some equal parts of the time."""
    ends = [
        (chunk.ended_s, chunk.rows_succeeded + chunk.rows_failed)
        for chunk in facts.chunks
        if chunk.ended_s is not None
    ]
    last = max((at for at, _ in ends), default=0.0)
    parts = max(1, min(MOST_PARTS, len(ends) // CHUNKS_PER_PART))
    rows = [0] * parts
    for at, count in ends:
        rows[min(parts - 1, int(at / last * parts) if last else 0)] += count
    rate = sum(rows) / last if last else None
    return {"rows_per_s": rate, "part_s": last / parts, "rows": rows}


def _batches(facts: ReportFacts, rows: int) -> dict[str, Any]:
    figures = sum_figures(chunk.run for chunk in facts.chunks if chunk.run is not None)
    busy_s = figures["seconds"]["forward"]
    per_million_s = busy_s / rows * 1e6 if rows else None
    cost = None if facts.price is None or per_million_s is None else per_million_s / 3600 * facts.price
    device = {
        "busy_s": busy_s,
        "busy_s_per_million_rows": per_million_s,
        "price_per_hour": facts.price,
        "cost_per_million_rows": cost,
    }
    return {"batches": figures, "device": device}
