"""A fleet at work for long, its processes looked at every few seconds: does anything grow?

python -m tests.faults.soak --minutes 25 --csv soak.csv --plot docs/soak.svg
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import psutil
import redis

from shunter import Client
from tests.faults.arena import Arena, arena, pass_time
from tests.faults.ledger import MODEL_SOURCE, Ledger, violations
from tests.faults.load import Producer
from tests.faults.nemesis import Nemesis
from tests.waiting import wait_until

SAMPLE_EVERY_S = 10.0
PAGE, PAGE_PACE_S = 40, 4.0
LONE_PACE_S = 1.0
SETTLED_AFTER_S = 120.0
"""What grows until then is a beginning, not a leak."""

MEASURES = {"private_mib": "private memory, MiB", "fds": "file descriptors", "connections": "connections"}


class Sample(NamedTuple):
    """What one process, or one service with all its processes, held at one moment."""

    seconds: float
    who: str
    private_mib: float
    """Without shared pages: each of Postgres' processes would count the shared buffers as its own."""
    fds: int
    connections: int


def main() -> int:
    """Returns the exit code: 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--csv", type=Path, default=Path("soak.csv"))
    parser.add_argument("--plot", type=Path, default=Path("soak.svg"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shunter-soak-") as directory:
        samples, wrong, jobs = soak(Path(directory), 60 * arguments.minutes, arguments.csv)
    print(f"{jobs} jobs in {arguments.minutes:.0f} minutes, {len(wrong)} violations of I1-I9")
    print("\n".join(growth(samples)))
    plot(samples, arguments.plot)
    return int(bool(wrong))


def soak(directory: Path, seconds: float, log: Path) -> tuple[list[Sample], list[str], int]:
    """The samples, the promises that were not kept, and the number of jobs."""
    samples: list[Sample] = []
    ledger = Ledger()
    with ExitStack() as stack:
        place = stack.enter_context(arena(directory, row_s=0.001, source=MODEL_SOURCE))
        nemesis = Nemesis(place, rng=cast(Any, None), workers=1)
        stack.callback(nemesis.stop_api)
        ways = [(lambda: Client(settings=place.settings), PAGE, PAGE_PACE_S)]
        ways.append((lambda: Client(nemesis.url), 1, LONE_PACE_S))
        producers = [
            Producer(way, ledger, seed=number, pace_s=pace_s, page=page)
            for number, (way, page, pace_s) in enumerate(ways)
        ]
        table = stack.enter_context(log.open("w"))
        writer = csv.writer(table)
        writer.writerow(Sample._fields)
        began = time.monotonic()
        while (now := time.monotonic() - began) < seconds:
            fresh = list(_look(place, nemesis, now))
            samples += fresh
            writer.writerows(fresh)
            table.flush()
            pass_time(SAMPLE_EVERY_S)
        for producer in producers:
            producer.stop()
            producer.join()
        with suppress(AssertionError):
            wait_until(lambda: place.done() >= len(ledger.accepted), 60)
        return samples, list(violations(place, ledger)), len(ledger.accepted)


def _look(place: Arena, nemesis: Nemesis, now: float) -> Iterator[Sample]:
    (hub,) = nemesis.hubs
    hub_process = psutil.Process(hub.pid)
    yield _sample(now, "hub", [hub_process])
    yield _sample(now, "engine", hub_process.children())
    yield _sample(now, "API", [psutil.Process(nemesis.api.pid)])
    with redis.Redis.from_url(place.redis.url) as client:
        clients = int(cast(Mapping[str, Any], client.info("clients"))["connected_clients"])
    yield _sample(now, "Redis", _tree(place.redis.pid), clients)
    backends = place.ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    yield _sample(now, "Postgres", _tree(place.postgres.pid), int(backends[0][0]))


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _sample(
    now: float, who: str, processes: Sequence[psutil.Process], connections: int | None = None
) -> Sample:
    private, fds, found = 0, 0, 0
    for process in processes:
        # One that ends just now holds nothing any more.
        with suppress(psutil.NoSuchProcess):
            private += process.memory_full_info().uss
            fds += process.num_fds()
            found += len(process.net_connections()) if connections is None else 0
    return Sample(
        round(now, 1), who, round(private / 2**20, 2), fds, found if connections is None else connections
    )


def growth(samples: Sequence[Sample]) -> Iterator[str]:
    """A line for each: what it held after the beginning, and at the end (medians of a tenth of the time)."""
    series: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.seconds >= SETTLED_AFTER_S:
            series[sample.who].append(sample)
    yield f"{'':10}" + "".join(f"{name:>13} first  last" for name in MEASURES)
    for who, kept in series.items():
        tenth = max(1, len(kept) // 10)
        yield f"{who:10}" + "".join(
            f"{_median(kept[:tenth], name):19.1f}{_median(kept[-tenth:], name):6.1f}" for name in MEASURES
        )


def _median(samples: Sequence[Sample], name: str) -> float:
    values = sorted(getattr(sample, name) for sample in samples)
    return float(values[len(values) // 2])


def plot(samples: Sequence[Sample], file: Path) -> None:
    """Three panels over time."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(len(MEASURES), 1, sharex=True, figsize=(8, 7))
    for panel, (name, label) in zip(panels, MEASURES.items(), strict=True):
        for who in dict.fromkeys(sample.who for sample in samples):
            mine = [sample for sample in samples if sample.who == who]
            panel.plot(
                [sample.seconds / 60 for sample in mine], [getattr(s, name) for s in mine], label=who, lw=1
            )
        panel.set_ylabel(label)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0].legend(ncol=5, fontsize="small")
    panels[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(file)


if __name__ == "__main__":
    sys.exit(main())
