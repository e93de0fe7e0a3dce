"""What the queue costs: round trips, publishing, and waiting for nothing."""

from __future__ import annotations

import math
import random
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.report import Report, by_calls, percentile, spread
from benchmarks.rig import NOOP, Process, RedisCount, Rig, redis_count, rig, say, wait_for
from benchmarks.waiters import MODEL, QUEUE
from shunter import Client
from shunter.producers.publisher import Publisher
from shunter.storage.envelope import Envelope, encode

OURS = Path(sys.executable)
WAITER_PROCESSES = 4
UNHURRIED_S = 0.4, 0.8
"""Pauses between messages without a token: a fetcher that has just been busy looks more often."""

LAST_ACK_S = 0.2
"""After the last job has settled, its ack may still be under way."""


def round_trips(*, envelopes: int = 3000) -> Report:
    """Redis round trips and commands for each single-job envelope that is consumed and acked."""
    report = Report("round-trips", ["consumer", "envelopes", "round trips each", "commands each", "calls"])
    with rig({MODEL: NOOP}) as bench, Client(settings=bench.settings) as client:
        worker = bench.start_worker()
        client.submit_many(MODEL, list(range(500)))
        wait_for(lambda: bench.finished() >= 16, "the warm-up has run")
        for name, run in (("backlog", _backlog), ("live", _live)):
            _tell_trips(report, f"Shunter, {name}", envelopes, run(bench, client, worker, envelopes))
        worker.stop()
        stock = bench.start_celery("stock", OURS, "-Q", "stock")
        _tell_trips(report, "stock Celery 5.7, backlog", envelopes, _stock_backlog(bench, stock, envelopes))
    report.notes.append(
        "A round trip is a read of Redis from a socket (INFO total_reads_processed): a pipeline is one. "
        "Backlog: all published while the consumer is held, from its release to its last job settled. "
        "Live: one thread submits one job after the other; the publisher's own trips are taken off."
    )
    return report


def _tell_trips(report: Report, name: str, envelopes: int, spent: RedisCount) -> None:
    each = spent.reads / envelopes
    report.row(name, envelopes, each, spent.commands / envelopes, by_calls(spent.calls))
    report.raw[name] = {"reads": spent.reads, "commands": spent.commands, "s": spent.at, "calls": spent.calls}
    say(f"{name}: {each:.4f} round trips each in {spent.at:.2f} s")


def _backlog(bench: Rig, client: Client, worker: Process, envelopes: int) -> RedisCount:
    done = bench.finished()
    worker.freeze()
    for number in range(envelopes):
        client.submit(MODEL, [number])
    before = redis_count(bench.redis)
    worker.thaw()
    wait_for(lambda: bench.finished() >= done + envelopes, "every job has settled")
    time.sleep(LAST_ACK_S)
    return redis_count(bench.redis) - before


def _live(bench: Rig, client: Client, _worker: Process, envelopes: int) -> RedisCount:
    done = bench.finished()
    before = redis_count(bench.redis)
    for number in range(envelopes):
        client.submit(MODEL, [number])
    wait_for(lambda: bench.finished() >= done + envelopes, "every job has settled")
    time.sleep(LAST_ACK_S)
    spent = redis_count(bench.redis) - before
    # A publish is one pipeline of three commands.
    return RedisCount(
        spent.at, spent.commands - 3 * envelopes, spent.reads - envelopes, spent.cpu_s, spent.calls
    )


def _stock_backlog(bench: Rig, stock: Process, envelopes: int) -> RedisCount:
    from benchmarks.celery_peer import app, trivial

    app.conf.broker_url = bench.settings.redis_url
    trivial.delay()
    wait_for(lambda: not _stock_left(bench), "the warm-up has run")
    stock.freeze()
    for _ in range(envelopes):
        trivial.delay()
    before = redis_count(bench.redis)
    stock.thaw()
    looks = 0
    while _stock_left(bench):
        looks += 2
        time.sleep(0.2)
    spent = redis_count(bench.redis) - before
    return RedisCount(spent.at, spent.commands - looks - 2, spent.reads - looks - 2, spent.cpu_s, spent.calls)


def _stock_left(bench: Rig) -> bool:
    return bool(bench.redis.llen("stock")) or bool(bench.redis.hlen("unacked"))


def publish(*, repetitions: int = 7) -> Report:
    """Messages published a second: ours in bunches, and Celery's own way, with the same arguments."""
    report = Report("publish", ["publisher", "messages/s, median (range)", "x Celery, median (range)"])
    rates: dict[str, list[float]] = {}
    with rig({MODEL: NOOP}) as bench:
        ways = _publishers(bench)
        for repetition in range(repetitions):
            for name, (publish_all, count) in ways.items():
                began = time.perf_counter()
                publish_all(count)
                rates.setdefault(name, []).append(count / (time.perf_counter() - began))
                assert bench.redis.llen(QUEUE) == count, f"{name} published another number"
                bench.redis.flushdb()
            say(
                f"repetition {repetition + 1} of {repetitions}: "
                + ", ".join(f"{name} {values[-1]:,.0f}/s" for name, values in rates.items())
            )
    celery = rates["Celery send_task"]
    for name, values in rates.items():
        ratios = [ours / theirs for ours, theirs in zip(values, celery, strict=True)]
        report.row(name, spread(values), spread(ratios))
    report.raw = dict(rates)
    return report


def _publishers(bench: Rig) -> dict[str, tuple[Callable[[int], None], int]]:
    from benchmarks.celery_peer import app

    app.conf.broker_url = bench.settings.redis_url
    publisher = Publisher(bench.settings.redis_url)

    def celery(count: int) -> None:
        for _ in range(count):
            envelope = single()
            fields = {
                "ids": [str(envelope.id)],
                "model": MODEL,
                "version": 1,
                "rows": 1,
                "priority": "standard",
                "enqueued_at": envelope.enqueued_at,
            }
            app.send_task("shunter.run", kwargs=fields, queue=QUEUE, task_id=str(envelope.id))

    def bunches(size: int) -> Callable[[int], None]:
        def publish_all(count: int) -> None:
            for _ in range(0, count, size):
                publisher.publish([single() for _ in range(size)]).close()

        return publish_all

    return {
        "Celery send_task": (celery, 1500),
        "ours, bunches of 256": (bunches(256), 256 * 80),
        "ours, bunches of 1000": (bunches(1000), 20_000),
        "ours, one by one": (bunches(1), 4000),
    }


def single(model: str = MODEL) -> Envelope:
    """An envelope of one job that does not exist."""
    id = uuid.uuid4()
    return Envelope(id=id, ids=(id,), model=model, version=1, rows=1, enqueued_at=time.time())


def idle(*, seconds: float = 10.0, messages: int = 200) -> Report:
    """What waiting costs Redis, and how soon a lone message is noticed, for three ways to wait."""
    columns = [
        "waiting",
        "consumers",
        "round trips/s each",
        "commands/s each",
        "Redis CPU %",
        "lone message p50 / p99 ms",
    ]
    report = Report("idle", columns)
    with rig({MODEL: NOOP}) as bench:
        cases = [
            ("every 20 ms", "poll", 1, True),
            ("BLMOVE onto itself", "block", 1, True),
            ("ours", "wake", 1, True),
            ("ours, a message without a token", "wake", 1, False),
            ("every 20 ms", "poll", 200, True),
            ("BLMOVE onto itself", "block", 200, True),
            ("ours", "wake", 200, True),
        ]
        for name, strategy, count, token in cases:
            _idle_case(report, bench, (name, strategy, count, token), seconds=seconds, messages=messages)
        worker = bench.start_worker()
        time.sleep(2)
        spent = _rest(bench, seconds)
        report.row(
            "a whole Shunter worker, with Celery and duties",
            1,
            spent.reads / spent.at,
            spent.commands / spent.at,
            100 * spent.cpu_s / spent.at,
            "see wake-up",
        )
        report.raw["worker"] = {"calls": spent.calls, "s": spent.at}
        worker.stop()
    report.notes.append("A script's own calls count as commands; a pipeline or a script is one round trip.")
    return report


def _idle_case(
    report: Report, bench: Rig, case: tuple[str, str, int, bool], *, seconds: float, messages: int
) -> None:
    name, strategy, count, token = case
    bench.redis.flushdb()
    label = f"{strategy}-{count}-{token}"
    each = math.ceil(count / WAITER_PROCESSES)
    command = [sys.executable, "-m", "benchmarks.waiters", strategy, str(each)]
    processes = [bench.start(f"{label}-{n}", command) for n in range(math.ceil(count / each))]
    connections = count * (2 if strategy == "wake" else 1)
    wait_for(lambda: len(bench.redis.client_list()) >= connections, "the waiters are connected")
    time.sleep(3)
    spent = _rest(bench, seconds)
    delays = _lone(bench, processes, messages=messages if token else messages // 4, token=token)
    for process in processes:
        process.stop()
    latency = f"{percentile(delays, 0.5):.1f} / {percentile(delays, 0.99):.1f}"
    trips, commands = (number / spent.at / count for number in (spent.reads, spent.commands))
    cpu = 100 * spent.cpu_s / spent.at
    report.row(name, count, trips, commands, cpu, latency)
    report.raw[label] = {"calls": spent.calls, "s": spent.at, "cpu_s": spent.cpu_s, "delays_ms": delays}
    say(f"{name} x {count}: {commands:.1f} commands/s each, CPU {cpu:.1f} %, {latency} ms")


def _rest(bench: Rig, seconds: float) -> RedisCount:
    before = redis_count(bench.redis)
    time.sleep(seconds)
    return redis_count(bench.redis) - before


def _lone(bench: Rig, processes: Sequence[Process], *, messages: int, token: bool) -> list[float]:
    """Milliseconds until each of some messages, sent one at a time, was popped."""
    publisher, source, sent = Publisher(bench.settings.redis_url), random.Random(1), {}
    pauses = (0.02, 0.08) if token else UNHURRIED_S
    for _ in range(messages):
        time.sleep(source.uniform(*pauses))
        envelope = single()
        sent[str(envelope.id)] = time.monotonic()
        if token:
            publisher.publish([envelope]).close()
        else:
            bench.redis.lpush(QUEUE, encode(envelope))
    time.sleep(1)
    lines = [line.split() for process in processes for line in process.log_file.read_text().splitlines()]
    came = {id: float(at) for id, at in lines}
    return [1000 * (came[id] - at) for id, at in sent.items()]
