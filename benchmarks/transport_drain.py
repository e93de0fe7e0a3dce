"""How fast a backlog goes: plain Celery messages beside celery-batches, and a million items of our own."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable
from typing import Any

from benchmarks.report import Report, spread
from benchmarks.rig import MODELS, NOOP, Process, Rig, peer_venv, rig, say, wait_for
from benchmarks.usage import cpu_by_process
from shunter import Client

MESSAGES = 20_000
"""So many that what a worker begins slowly with is a small part."""

MESSAGES_AT_ONCE = 250
FEATURES = 128
MILLION = 1_000_000
PART = 100_000
DRAIN_S = 60.0


def celery_producer(*, repetitions: int = 5) -> Report:
    """Drain of plain Celery messages, 128 floats each, an MLP, every result settled in Postgres."""
    spent_on = ["worker", "engine", "Postgres", "Redis"]
    report = Report(
        "celery-producer",
        [
            "consumer",
            "messages/s, median (range)",
            "x celery-batches, median (range)",
            *(f"{name}, CPU µs each" for name in spent_on),
        ],
    )
    rates: dict[str, list[float]] = {}
    spent: dict[str, list[dict[str, float]]] = {}
    with rig({"mlp": MODELS / "mlp"}) as bench:
        python = peer_venv()
        ours = bench.start_worker()
        peer = bench.start_celery("batches", python, "-Q", "batches", BENCH_PREFETCH="512", BENCH_MODEL="mlp")
        lines = {
            "Shunter": ("infer.mlp", _messages(bench, "shunter.submit", "infer.mlp")),
            "celery-batches 0.11, 256 / 0.1 s": ("batches", _messages(bench, "mlp_batch", "batches")),
        }
        for repetition in range(-1, repetitions):
            for name, process, done in (
                ("Shunter", ours, bench.finished),
                ("celery-batches 0.11, 256 / 0.1 s", peer, lambda: _results(bench)),
            ):
                bench.level()
                before = cpu_by_process(process.pid)
                rate = _drain(bench, process, lines[name], done)
                after = cpu_by_process(process.pid)
                if repetition >= 0:
                    rates.setdefault(name, []).append(rate)
                    each = {key: 1e6 * (after[key] - before[key]) / MESSAGES for key in after}
                    spent.setdefault(name, []).append(each)
                say(f"repetition {repetition + 1} of {repetitions}: {name} {rate:,.0f}/s")
    ratios = [mine / theirs for mine, theirs in zip(*rates.values(), strict=True)]
    for name, values in rates.items():
        ratio = spread(ratios) if name == "Shunter" else 1
        each = [round(statistics.median(one[key] for one in spent[name])) for key in spent_on]
        report.row(name, spread(values), ratio, *each)
    report.raw = {"rates": rates, "cpu_us": spent}
    report.notes.append(
        f"{MESSAGES:,} messages of stock `send_task`, laid before a held worker; till the last "
        "result in Postgres. The peer inserts one row per message and batch; we insert the job and settle it."
    )
    return report


def _messages(bench: Rig, task: str, queue: str) -> list[bytes]:
    """What a stock producer sends, as it lies in Redis; taken off again."""
    from benchmarks.celery_peer import app

    app.conf.broker_url = bench.settings.redis_url
    away = f"kept.{queue}"
    for number in range(MESSAGES):
        row = [((number + feature) % 97) / 97 for feature in range(FEATURES)]
        whole: dict[str, Any] = (
            {"kwargs": {"model": "mlp", "rows": [row]}} if "submit" in task else {"args": (row,)}
        )
        app.send_task(task, queue=away, task_id=str(uuid.uuid4()), **whole)
    raw: Any = bench.redis.lrange(away, 0, -1)
    bench.redis.delete(away)
    return list(raw)


def _drain(bench: Rig, process: Process, line: tuple[str, list[bytes]], done: Callable[[], int]) -> float:
    queue, messages = line
    process.freeze()
    for start in range(0, len(messages), MESSAGES_AT_ONCE):
        bench.redis.rpush(queue, *messages[start : start + MESSAGES_AT_ONCE])
    time.sleep(0.5)
    began = time.perf_counter()
    process.thaw()
    # Counting rows takes a whole reading of the table: not before the last messages have been taken.
    wait_for(lambda: process.alive() and not bench.redis.llen(queue), "every message is taken")
    wait_for(lambda: process.alive() and done() >= len(messages), "every message has its result")
    return len(messages) / (time.perf_counter() - began)


def _results(bench: Rig) -> int:
    return int(bench.value("SELECT count(*) FROM results"))


def million() -> Report:
    """A million queued items of one float each, without a worker; then a worker comes."""
    report = Report("million", ["figure", "value"])
    with rig({"noop": NOOP}) as bench, Client(settings=bench.settings) as client:
        rates, memory, bytes_before = [], _memory(bench), _table_bytes(bench)
        for part in range(MILLION // PART):
            rows = [float(number) for number in range(part * PART, (part + 1) * PART)]
            began = time.perf_counter()
            client.submit_many("noop", rows)
            rates.append(PART / (time.perf_counter() - began))
            say(f"part {part + 1}: {rates[-1]:,.0f} items/s")
        report.row("submit rate, first 100,000, items/s", rates[0])
        report.row("submit rate, last 100,000, items/s", rates[-1])
        report.row("submit rate, median of parts, items/s", statistics.median(rates))
        report.row("Redis bytes per item", (_memory(bench) - memory) / MILLION)
        report.row(
            "Postgres bytes per item, indexes included", (_table_bytes(bench) - bytes_before) / MILLION
        )
        report.row("jobs", bench.value("SELECT count(*) FROM jobs"))
        _drain_million(report, bench)
        report.raw |= {"submit_rates": rates}
    return report


def _drain_million(report: Report, bench: Rig) -> None:
    began = time.perf_counter()
    bench.start_worker()
    say(f"the worker registered {time.perf_counter() - began:.2f} s after its start")
    first_s = wait_for(bench.finished, "a first job has settled")
    report.row("worker registered -> first settled job, s", first_s)
    start, seen = time.perf_counter(), []
    while time.perf_counter() - start < DRAIN_S:
        time.sleep(1)
        seen.append((time.perf_counter() - start, _rows(bench)))
        if seen[-1][1] == MILLION:
            break
    report.row("drained, items", seen[-1][1])
    report.row("drain rate, items/s", seen[-1][1] / seen[-1][0])
    report.raw["drain"] = seen
    report.row("Redis bytes after the drain, per item", _memory(bench) / MILLION)


def _memory(bench: Rig) -> int:
    info: Any = bench.redis.info("memory")
    return int(info["used_memory"])


def _table_bytes(bench: Rig) -> int:
    return int(bench.value("SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('jobs')"))


def _rows(bench: Rig) -> int:
    return int(bench.value("SELECT coalesce(sum(rows), 0) FROM jobs WHERE finished_at IS NOT NULL"))
