"""What one bad row costs: forwards for exceptions, engine starts and seconds for crashes and hangs.

python -m benchmarks.isolation exceptions            # in one process, 4096 rows
python -m benchmarks.isolation simulated             # crashes on a fake engine, counted
python -m benchmarks.isolation crash hang            # a whole fleet, k = 1 and 3 among 256
python -m benchmarks.isolation deadline              # one hanging row among 4096, batch_timeout_s = 30
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from shunter import Client
from shunter.local_fleet import LocalFleet
from shunter.storage.job import Claim
from shunter.workers.isolation import Failure, isolate
from tests.acceptance.fleet import running_fleet, write_model
from tests.fake_engine import FakeEngine

LONG_TIMEOUT_S = 30.0
"""What waits behind a row that hangs for so long is measured."""

POISONOUS = """
import signal
import time
from pathlib import Path

class Model:
    def load(self, directory, device, *, log):
        self.log = Path(log)
        with self.log.open("a") as file:
            file.write("start\\n")

    def forward(self, rows):
        time.sleep(0.02)
        if "crash" in rows:
            signal.raise_signal(signal.SIGSEGV)
        while "hang" in rows:
            time.sleep(1)
        return rows
"""


def main(parts: Sequence[str]) -> None:
    """Run the named parts, or those that are quick."""
    runs: dict[str, Callable[[], None]] = {
        "exceptions": exceptions,
        "simulated": simulated,
        "crash": lambda: poisoned("crash", batch_timeout_s=2.0),
        "hang": lambda: poisoned("hang", batch_timeout_s=2.0),
        "deadline": deadline,
    }
    for part in parts or ("exceptions", "simulated"):
        runs[part]()


def exceptions() -> None:
    """k rows of 4096 raise, in batches of 256."""
    count, batch = 4096, 256
    print("| rows that raise, of 4096 | failures | forwards | bound |\n| --- | --- | --- | --- |")
    for k in (1, 3, 17):
        bad = {(number * 241 + 7) % count for number in range(k)}

        def forward(part: Sequence[int], start: int, bad: set[int] = bad) -> list[int]:
            if any(start + index in bad for index in part):
                raise ValueError("bad row")
            return list(part)

        parts = [
            isolate(batch, lambda rows, start=start: forward(rows, start))  # type: ignore[misc]
            for start in range(0, count, batch)
        ]
        failures = sum(isinstance(result, Failure) for part in parts for result in part.results)
        bound = count // batch + k * (int(math.log2(batch)) + 3)
        print(f"| {k} | {failures} | {sum(part.forwards for part in parts)} | {bound} |")


def simulated() -> None:
    """k rows kill a fake engine."""
    print("| rows that kill | of | failures | deaths | forwards |\n| --- | --- | --- | --- | --- |")
    job = Claim(UUID(int=1), 1)
    for count in (256, 4096):
        for k in (1, 3, 17):
            bad = {(job, (number * (count // 17) + 5) % count) for number in range(k)}
            engine = FakeEngine([(job, index) for index in range(count)], bad, batch=256, stages=2)
            engine.serve()
            failures = len(engine.suspicion.guilty(job))
            print(f"| {k} | {count} | {failures} | {engine.deaths} | {engine.forwards} |")


def poisoned(kind: str, *, batch_timeout_s: float) -> None:
    """k rows of 256 crash or hang a real engine of a whole fleet."""
    print(f"| rows that {kind}, of 256 | failures | engine starts | seconds |\n| --- | --- | --- | --- |")
    for k in (1, 3):
        with _fleet(batch_timeout_s) as (fleet, log), Client(settings=fleet.settings) as client:
            _warm(client)
            bad = (40, 41, 200)[:k]
            rows = [kind if number in bad else number for number in range(256)]
            began = time.monotonic()
            job = client.submit("poisonous", rows)
            job.wait(timeout=600)
            seconds = time.monotonic() - began
            print(f"| {k} | {len(job.errors())} | {_starts(log) - 1} | {seconds:.1f} |")


def deadline() -> None:
    """One row of 4096 hangs with batch_timeout_s = 30; an unrelated job comes right after it."""
    with _fleet(LONG_TIMEOUT_S) as (fleet, log), Client(settings=fleet.settings) as client:
        start_s = _seconds_of_a_small_job(client)
        _warm(client)
        usual_s = _seconds_of_a_small_job(client)
        rows = ["hang" if number == 1000 else number for number in range(4096)]
        began = time.monotonic()
        job = client.submit("poisonous", rows)
        other = client.submit("poisonous", list(range(8)))
        other.wait(timeout=600)
        bound_s = LONG_TIMEOUT_S + start_s
        print(f"unrelated job: {time.monotonic() - began:.1f} s (usually {usual_s:.2f} s)")
        print(f"one timeout and one engine start: {bound_s:.1f} s")
        status = job.wait(timeout=600)
        starts = _starts(log) - 1
        print(f"the 4096 rows: {time.monotonic() - began:.1f} s, {starts} engine starts, {status.rows}")
        print(*job.errors(), sep="\n")


@contextmanager
def _fleet(batch_timeout_s: float) -> Iterator[tuple[LocalFleet, Path]]:
    """A fleet that serves the poisonous model, and the file in which its engines count their starts."""
    with tempfile.TemporaryDirectory() as name:
        directory, log = Path(name), Path(name) / "starts"
        (directory / "models").mkdir()
        toml = f'[run]\nbatch_timeout_s = {batch_timeout_s}\n[params]\nlog = "{log}"\n'
        write_model(directory / "models", "poisonous", POISONOUS, toml=toml)
        with running_fleet(directory, directory / "models") as fleet:
            yield fleet, log


def _warm(client: Client) -> None:
    """Start the engine, and let it measure some batches."""
    for _ in range(3):
        client.submit("poisonous", list(range(300))).wait(timeout=60)


def _seconds_of_a_small_job(client: Client) -> float:
    """From submission until it has ended; of the first one, nearly all of that is the engine's start."""
    began = time.monotonic()
    client.submit("poisonous", list(range(8))).wait(timeout=60)
    return time.monotonic() - began


def _starts(log: Path) -> int:
    return len(log.read_text().splitlines())


if __name__ == "__main__":
    main(sys.argv[1:])
