"""A scoring whose processes are killed, one after another, beside one that nobody disturbs.

python -m tests.faults.scoring [SEED] [--rows N] [--rounds N]
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from shunter.producers.scoring.handle import Scoring
from tests.datasets import dataset_content
from tests.faults.arena import MODEL, PATIENCE_S, Arena, Hub, arena, chosen
from tests.waiting import wait_until

# Integers only: outputs do not depend on which rows share a batch. For every row that is taken up, a byte.
SOURCE = """
import os, time
from shunter import RowError

class Model:
    def load(self, directory, device, *, row_s):
        self.row_s = row_s
        self.taken = os.open(directory.parents[2] / "taken", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def preprocess(self, row):
        os.write(self.taken, b".")
        if row % 1013 == 13:
            raise RowError("thirteen", f"{row} is unlucky")
        return row

    def forward(self, rows):
        time.sleep(self.row_s * len(rows))
        if any(row % 50021 == 21 for row in rows):
            raise ValueError("one of them is unlucky")
        return [row * row + 1 for row in rows]
"""

ROWS, CHUNKS = 1_000_000, 256
LASTS_S = 20.0
"""What the model takes for all rows: long enough to be killed in the middle."""

SCORED_WITHIN_S = 300.0

HELD = """
SELECT coalesce(sum(rows), 0) FROM jobs WHERE state = 'running' AND worker = ANY(%s::uuid[])
"""


@dataclass
class Campaign:
    """One scoring under fire; `held` are the rows of the chunks that killed processes had in hand."""

    place: Arena
    scoring: Scoring
    rows: int
    rng: random.Random
    held: int = 0
    kills: list[str] = field(default_factory=list)

    def run(self, rounds: int) -> None:
        """Kill each kind of process `rounds` times, at moments of chance, and let the scoring end."""
        self._planner()
        strikes = [*STRIKES] * rounds
        self.rng.shuffle(strikes)
        moments = sorted(self.rng.uniform(0.0, 0.85) for _ in strikes)
        for moment, name in zip(moments, strikes, strict=True):
            self._reach(moment)
            STRIKES[name](self)
            self.kills.append(f"{name} at {self._done():.0%}")
        self._publisher()

    def _planner(self) -> None:
        """The only hub stops between committing a page of chunks and pushing it."""
        hub = self.place.start_hub(f"plan.committed=hang@{self.rng.randint(1, 4)}")
        self._wait_for_log("failpoint plan.committed: hang")
        self.place.start_hub()
        self.place.start_hub()
        self._kill(hub)
        self.kills.append("planner, its page not pushed")

    def _publisher(self) -> None:
        """The only hub that is left stops when the dataset is there, and is not yet said to be."""
        last = self.place.start_hub("dataset.published=hang")
        for hub in self._alive():
            if hub is not last:
                with _stopped(hub):
                    # What it gives back is taken up again, though it may not have begun.
                    self.held += self._held_by(hub)
                    hub.signal(signal.SIGTERM)
        hung = "failpoint dataset.published: hang"
        wait_until(lambda: hung in self._log() or self.scoring.status().done, SCORED_WITHIN_S)
        if hung in self._log():
            # On a slow machine another hub may have published before this one was there.
            self.kills.append("publisher, the dataset being there")
        self._kill(last)
        self.place.start_hub()
        self.scoring.wait(timeout=SCORED_WITHIN_S)

    def kill_hub(self) -> None:
        """A whole worker."""
        self._kill(self.rng.choice(self._alive()))
        self.place.start_hub()

    def kill_engine(self) -> None:
        """An engine, whose hub goes on."""
        hub = self.rng.choice(self._alive())
        with _stopped(hub):
            self.held += self._held_by(hub)
            for engine in psutil.Process(hub.pid).children():
                engine.kill()

    def kill_writer(self) -> None:
        """A worker that has stored a chunk's files, and has not said so."""
        before = self._log().count("failpoint engine.stored: hang")
        hub = self.place.start_hub(f"engine.stored=hang@{self.rng.randint(1, 3)}")
        wait_until(
            lambda: self._log().count("failpoint engine.stored: hang") > before or self._done() == 1.0,
            PATIENCE_S,
        )
        self._kill(hub)

    def kill_redis(self) -> None:
        """Redis, which comes back with what it has kept on disk."""
        self.place.restart_redis()

    def lose_redis(self) -> None:
        """Redis, which comes back empty."""
        self.place.lose_redis()

    def _kill(self, hub: Hub) -> None:
        with _stopped(hub):
            self.held += self._held_by(hub)
            hub.kill()

    def _alive(self) -> Sequence[Hub]:
        return [hub for hub in self.place.hubs if not hub.dead]

    def _held_by(self, hub: Hub) -> int:
        # A hub that was given up and came back has another incarnation by now.
        incarnations = {hub.incarnation, self.place.incarnation_of(hub.pid)} - {None}
        return int(self.place.ask(HELD, (list(incarnations),))[0][0])

    def _reach(self, share: float) -> None:
        wait_until(lambda: self._done() >= share, SCORED_WITHIN_S)

    def _done(self) -> float:
        status = self.scoring.status()
        return (status.succeeded + status.failed) / self.rows

    def _log(self) -> str:
        return (self.place.directory / "processes.log").read_text(errors="replace")

    def _wait_for_log(self, line: str) -> None:
        wait_until(lambda: line in self._log(), SCORED_WITHIN_S)


STRIKES: Mapping[str, Callable[[Campaign], None]] = {
    "hub": Campaign.kill_hub,
    "engine": Campaign.kill_engine,
    "writer": Campaign.kill_writer,
    "Redis": Campaign.kill_redis,
    "Redis, emptied": Campaign.lose_redis,
}


@contextmanager
def _stopped(hub: Hub) -> Iterator[None]:
    """What it holds cannot change while somebody counts it."""
    hub.signal(signal.SIGSTOP)
    yield
    if not hub.dead:
        hub.signal(signal.SIGCONT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a campaign has shown; `redone` rows were taken up more than once."""

    kills: Sequence[str]
    failed: int
    redone: int
    held: int
    different: Sequence[str]
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether the datasets are equal, and no more was done again than had been in killed hands."""
        return not self.different and self.redone <= self.held


def campaign(directory: Path, rng: random.Random, *, rows: int, rounds: int = 1) -> Finding:
    """Score the same input twice, once in peace and once under fire, and compare."""
    table = pa.table({"id": [f"n{n}" for n in range(rows)], "x": range(rows)})
    pq.write_table(table, directory / "in.parquet", row_group_size=rows // 4)
    with arena(directory, source=SOURCE, row_s=LASTS_S / rows, max_rows=1024) as place:
        calm = place.start_hub()
        failed = _begin(place, "calm", rows).wait(timeout=SCORED_WITHIN_S).failed
        calm.kill()
        taken = _taken(place)
        began = time.monotonic()
        fire = Campaign(place, _begin(place, "stormy", rows), rows, rng)
        fire.run(rounds)
        calm_files, stormy_files = (dataset_content(directory / name) for name in ("calm", "stormy"))
        names = calm_files.keys() | stormy_files.keys()
        return Finding(
            kills=fire.kills,
            failed=failed,
            redone=_taken(place) - taken - rows,
            held=fire.held,
            different=sorted(name for name in names if calm_files.get(name) != stormy_files.get(name)),
            seconds=time.monotonic() - began,
        )


def _begin(place: Arena, output: str, rows: int) -> Scoring:
    return place.client.score(
        MODEL,
        place.directory / "in.parquet",
        place.directory / output,
        columns=["x"],
        key="id",
        chunk_rows=max(1, rows // CHUNKS),
    )


def _taken(place: Arena) -> int:
    return (place.directory / "taken").stat().st_size


def main() -> int:
    """Returns the exit code: 1 if the datasets differ, or more was done again than need be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("seed", type=int, nargs="?", default=0, help="0 takes any, and prints it")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=1, help="so many kills of each kind")
    arguments = parser.parse_args()
    rng = chosen(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="shunter-scoring-") as directory:
        found = campaign(Path(directory), rng, rows=arguments.rows, rounds=arguments.rounds)
    for kill in found.kills:
        print(f"killed: {kill}")
    print(
        f"{arguments.rows} rows, {found.failed} of them bad, in {found.seconds:.0f} s under fire: "
        f"{len(found.different)} files differ; {found.redone} rows were done again, "
        f"killed processes held {found.held}"
    )
    return 0 if found.sound else 1


if __name__ == "__main__":
    sys.exit(main())
