"""A progress bar on stderr, so that stdout holds only the tables."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar


class Progress:
    """Tells what is being measured, and how much of a set is done."""

    def __init__(self) -> None:
        columns = TextColumn("{task.fields[set]}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        console = Console(stderr=True)
        self._bar = Bar(*columns, TextColumn("{task.description}"), console=console)
        self._task = self._bar.add_task("", total=None, set="")

    def begin(self, name: str) -> None:
        """A new set begins."""
        self._bar.reset(self._task, total=0, description="starting", set=name)

    def expect(self, steps: int) -> None:
        """So many steps more will come."""
        total = next(task.total for task in self._bar.tasks) or 0
        self._bar.update(self._task, total=total + steps)

    def step(self, what: str) -> None:
        """The next step begins."""
        self._bar.update(self._task, description=what)
        self._bar.advance(self._task)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
