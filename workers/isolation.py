"""Find the guilty rows of a failing batch, so that only they fail, and halve a batch that does not fit.

A failing group is descended by halves: when the first half passes, the guilty row must be in the
second, which is not run again as a whole. Halves left untested go back to one common line. So one bad
row in 256 costs 10 more forwards, and k bad rows in n cost at most about k * (log2(n) + 3).
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, TypeVar

from shunter.storage.errors import OutputMismatch, ShunterError, Transient, shorten
from shunter.workers.model import MODULE_PREFIX

T = TypeVar("T")


class Verdict:
    """What stands in for the output of a row that has none."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Failure(Verdict):
    """Why one row has no output."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Retry(Verdict):
    """Model code asked for the job to be tried again, after at least `after_s` seconds."""

    after_s: float
    message: str


@dataclass(frozen=True, slots=True)
class Raised:
    """What model code raised."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Isolated:
    """One result for each row, in order: its output or a Verdict.

    `forwards` counts the runs, of which `ooms` ran out of memory; `ceiling` is how many rows fit then,
    None if all did. `trial_failed` says that as a trial of more rows than were known to fit it ran out.
    """

    results: list[Any]
    forwards: int
    ooms: int
    ceiling: int | None
    trial_failed: bool = False


def attempt(call: Callable[..., T], *arguments: Any) -> T | Raised:
    """Call model code; what it raises comes back as a value.

    A device that is lost for good ends the process instead: nothing on it would succeed any more.
    """
    try:
        return call(*arguments)
    except (Exception, SystemExit) as error:
        if isinstance(error, _torch_error("AcceleratorError")):
            raise
        return Raised(error)


def judge(error: BaseException) -> Verdict:
    """What an exception from model code means for the rows it was raised for."""
    if isinstance(error, Transient):
        return Retry(error.after_s, error.message)
    if isinstance(error, ShunterError):
        return Failure(error.code, shorten(error.message))
    if is_out_of_memory(error):
        return Failure("out_of_memory", shorten(f"one row alone does not fit in memory: {error}"))
    text = str(error) or type(error).__name__
    return Failure(_snake_case(type(error).__name__), shorten(f"{text}{_place(error)}"))


def isolate(
    count: int,
    run: Callable[[Sequence[int]], Sequence[Any]],
    *,
    ceiling: int | None = None,
    trial: bool = False,
) -> Isolated:
    """Run `count` rows as one batch, and in parts only if that fails; `run` gets the rows' indices.

    More than `ceiling` rows are known not to fit in memory: they are not tried at once, or only once if
    the batch is a `trial`, to see whether they fit by now.
    A wrong number of outputs fails every row: nobody knows which output belongs to which row.
    """
    search = _Search(count, run, ceiling)
    try:
        search.go(trial=trial)
    except OutputMismatch as mismatch:
        verdict = judge(mismatch)
        search.results = [verdict] * count
    ceiling = search.ceiling if search.ooms else None
    return Isolated(search.results, search.forwards, search.ooms, ceiling, search.trial_failed)


class _Search:
    """Rows in, results out: the state of one `isolate`."""

    def __init__(
        self, count: int, run: Callable[[Sequence[int]], Sequence[Any]], ceiling: int | None
    ) -> None:
        self._count = count
        self._run = run
        self.results: list[Any] = [None] * count
        self.forwards = 0
        self.ooms = 0
        self.ceiling = ceiling
        self.trial_failed = False

    def go(self, *, trial: bool) -> None:
        line = list(range(self._count))
        if trial and self._settles(line):
            return
        while line:
            limit = self._limit(len(line))
            group, line = line[:limit], line[limit:]
            if not self._settles(group):
                line = sorted(self._narrow(group) + line)

    def _limit(self, waiting: int) -> int:
        # Once the search has cost as much as going one by one, most rows are bad: then go one by one.
        if self.forwards > self._count:
            return 1
        return min(waiting, self.ceiling or waiting)

    def _narrow(self, group: list[int]) -> list[int]:
        """Settle one guilty row of a failing group; returns the rows that nobody has tested yet."""
        untested: list[int] = []
        while 1 < len(group) <= (self.ceiling or len(group)):
            half = len(group) // 2
            first, second = group[:half], group[half:]
            if self._settles(first):
                group = second
            else:
                group = first
                untested += second
        if len(group) == 1:
            self._settles(group)
            return untested
        return untested + group

    def _settles(self, group: list[int]) -> bool:
        """Run some rows; whether they have their results now. A single row always has."""
        self.forwards += 1
        outcome = attempt(self._run, group)
        if not isinstance(outcome, Raised):
            for index, output in zip(group, outcome, strict=True):
                self.results[index] = output
            return True
        if isinstance(outcome.error, OutputMismatch):
            raise outcome.error
        full = is_out_of_memory(outcome.error)
        if full and self.ceiling is not None and len(group) > self.ceiling:
            # What is known to fit still does.
            self.trial_failed = True
            return False
        self.ooms += full
        if len(group) > 1 and not isinstance(outcome.error, Transient):
            if full:
                self.ceiling = len(group) // 2
            return False
        verdict = judge(outcome.error)
        for index in group:
            self.results[index] = verdict
        return True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether fewer rows might have succeeded; by type, never by reading the message."""
    return isinstance(error, (MemoryError, *_torch_error("OutOfMemoryError")))


def _torch_error(name: str) -> tuple[type[Exception], ...]:
    # Looked up, never imported: a model that does without torch must not pay for it.
    kind = getattr(sys.modules.get("torch"), name, None)
    return () if kind is None else (kind,)


def _place(error: BaseException) -> str:
    """The line of the author's model file that raised, if it was one."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__")).startswith(MODULE_PREFIX):
            place = f" ({PurePath(frame.f_code.co_filename).name}:{line})"
    return place


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
