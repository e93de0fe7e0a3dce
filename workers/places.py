"""A device's memory and who is in it: what engines cost, who waits for a place, how often each was loaded.

It keeps the books, decides with `memory.choose`, and starts and stops nothing itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shunter.storage.sizes import format_size
from shunter.workers.holdings import ModelKey
from shunter.workers.memory import Choice, Resident, Wanting, choose
from shunter.workers.meter import Gauge

RUNTIME = 256 * 2**20
"""What an engine needs beside its files until one has been measured: Python, numpy and torch."""


@dataclass(slots=True)
class _Place:
    """One engine from its start to its end."""

    pid: int
    since: float
    used_at: float
    load_s: float = 0.0
    ready: bool = False
    leaving: bool = False


class Places:
    """The engines on one device under `budget` bytes, or without a limit; only the hub's thread calls it."""

    def __init__(self, gauge: Gauge, *, budget: int | None = None) -> None:
        self.budget = budget
        self._gauge = gauge
        self._places: dict[ModelKey, _Place] = {}
        self._wanted: dict[ModelKey, float] = {}
        self._file_sizes: dict[ModelKey, int] = {}
        self._measured: dict[ModelKey, int] = {}
        self._too_large: dict[ModelKey, str] = {}
        self._loads: Counter[ModelKey] = Counter()

    @property
    def used(self) -> int:
        """Bytes that the engines take, estimates included."""
        return sum(self._cost(key) for key in self._places)

    @property
    def to_choose(self) -> bool:
        """Whether `choose` must look: somebody waits, or uses what may be taken from it."""
        return bool(self._wanted) or self.budget is not None

    def loads(self, key: ModelKey) -> int:
        """How often an engine was started for it."""
        return self._loads[key]

    def measured(self, key: ModelKey) -> int | None:
        """The most its engine was seen to take since it was loaded, in bytes; remembered when it is gone."""
        return self._measured.get(key)

    def waits(self, key: ModelKey) -> bool:
        """Whether it has work and no place."""
        return key in self._wanted and key not in self._places

    def refusal(self, key: ModelKey) -> str | None:
        """Why it can never have a place here, if so."""
        return self._too_large.get(key)

    def want(self, key: ModelKey, directory: Path, now: float) -> None:
        """It has work and no engine; the first wish is the one that counts."""
        if key not in self._file_sizes:
            self._file_sizes[key] = size = _size_of(directory)
            if self.budget is not None and size > self.budget:
                self._too_large[key] = self._refusal(key, f"files alone have {format_size(size)}")
        self._wanted.setdefault(key, now)

    def withdraw(self, key: ModelKey) -> None:
        """It has nothing to do here any more."""
        self._wanted.pop(key, None)

    def forget(self, key: ModelKey) -> None:
        """It is served no longer; the same number may come back with other files."""
        for known in (self._wanted, self._file_sizes, self._measured, self._too_large):
            known.pop(key, None)

    def started(self, key: ModelKey, pid: int, now: float) -> None:
        """An engine has been started."""
        self._wanted.pop(key, None)
        self._loads[key] += 1
        self._places[key] = _Place(pid, since=now, used_at=now)
        self._gauge.watch([place.pid for place in self._places.values()])

    def loaded(self, key: ModelKey, load_s: float, now: float) -> None:
        """Its engine takes work: its turn begins."""
        place = self._places.get(key)
        if place is not None:
            place.ready, place.load_s, place.since, place.used_at = True, load_s, now, now

    def leaving(self, key: ModelKey) -> None:
        """Its engine has been told to end."""
        if key in self._places:
            self._places[key].leaving = True

    def gone(self, key: ModelKey) -> None:
        """Its engine has ended, and all its memory is back."""
        self._places.pop(key, None)
        self._wanted.pop(key, None)
        self._gauge.watch([place.pid for place in self._places.values()])

    def choose(self, now: float, busy: Callable[[ModelKey], bool]) -> Choice:
        """Whom to load and to unload now; `busy` tells who has work here."""
        self._measure()
        for key, place in self._places.items():
            if busy(key):
                place.used_at = now
        wanting = [
            Wanting(key=key, cost=self._cost(key), since=since, measured=key in self._measured)
            for key, since in self._wanted.items()
            if key not in self._places and key not in self._too_large and busy(key)
        ]
        residents = [self._resident(key, place, busy(key)) for key, place in self._places.items()]
        return choose(residents, wanting, budget=self.budget, now=now)

    def outgrown(self) -> Mapping[ModelKey, str]:
        """Those with an engine that takes more than there is, and why they are refused from now on."""
        return {key: self._too_large[key] for key in self._places if key in self._too_large}

    def _measure(self) -> None:
        for key, place in self._places.items():
            reading = self._gauge.of(place.pid)
            if reading is None:
                continue
            if self.budget is not None and reading.size > self.budget:
                self._too_large[key] = self._refusal(key, f"engine takes {format_size(reading.size)}")
            # While it loads it takes less, or for a moment more.
            if place.ready and reading.at >= place.since:
                self._measured[key] = max(reading.size, self._measured.get(key, 0))

    def _refusal(self, key: ModelKey, what: str) -> str:
        assert self.budget is not None
        return (
            f"{key[0]} version {key[1]} is too large for this worker: its {what}, and --memory allows "
            f"{format_size(self.budget)}: serve it where there is more"
        )

    def _cost(self, key: ModelKey) -> int:
        measured = self._measured.get(key)
        if measured is not None:
            return measured
        place = self._places.get(key)
        reading = self._gauge.of(place.pid) if place is not None else None
        estimate = self._file_sizes.get(key, 0) + self._runtime()
        return estimate if reading is None else max(estimate, reading.size)

    def _runtime(self) -> int:
        """What engines need beside their files, as far as they have been measured."""
        beside = [max(0, size - self._file_sizes.get(key, 0)) for key, size in self._measured.items()]
        return sum(beside) // len(beside) if beside else RUNTIME

    def _resident(self, key: ModelKey, place: _Place, busy: bool) -> Resident:
        return Resident(
            key=key,
            cost=self._cost(key),
            since=place.since,
            used_at=place.used_at,
            load_s=place.load_s,
            ready=place.ready,
            busy=busy,
            leaving=place.leaving,
            measured=key in self._measured,
        )


def _size_of(directory: Path) -> int:
    """Bytes of all files of a version; 0 if it is being taken away."""
    try:
        return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    except OSError:
        return 0
