"""How statuses and handles look to a person: the same facts at a prompt, in a notebook and in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from shunter.storage.errors import ShunterError

if TYPE_CHECKING:
    from shunter.producers.scoring.request import ScoringStatus
    from shunter.producers.status import JobStatus

Facts = Mapping[str, object]
Advance = Callable[[int, int | None], None]


def job_facts(status: JobStatus) -> Facts:
    """What is to be said of a job or an item, in order; what does not apply is left out."""
    rows = status.rows
    facts: dict[str, object] = {
        "id": status.id,
        "state": status.state,
        "model": f"{status.model} version {status.version}",
        "rows": f"{rows.total}, {rows.succeeded} succeeded, {rows.failed} failed",
        "priority": status.priority,
        "attempts": status.attempts,
        "waiting": status.waiting and status.waiting.message,
        "error": _error(status.error),
        "created": status.created_at,
        "started": status.started_at,
        "finished": status.finished_at,
    }
    return {name: value for name, value in facts.items() if value is not None}


def scoring_facts(status: ScoringStatus) -> Facts:
    """What is to be said of a scoring."""
    done = status.succeeded + status.failed
    facts: dict[str, object] = {
        "scoring": status.id,
        "state": status.state,
        "model": f"{status.model} version {status.version}",
        "rows": f"{done}/{status.total or '?'}, {status.succeeded} succeeded, {status.failed} failed",
        "rate": f"{status.rows_per_s:.0f} rows/s",
        "output": status.output,
        "error": _error(status.error),
    }
    return {name: value for name, value in facts.items() if value is not None}


def one_line(kind: str, facts: Facts, *names: str) -> str:
    """A repr that says what matters."""
    return f"<{kind} {' · '.join(str(facts[name]) for name in names if name in facts)}>"


def as_html(facts: Facts) -> str:
    """A table for notebooks."""
    cells = (
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in facts.items()
    )
    return f"<table>{''.join(cells)}</table>"


def asked_as_html(handle: object, ask: Callable[[], Facts]) -> str:
    """The same for a handle, which has to ask for its status: showing it never raises."""
    try:
        return as_html(ask())
    except ShunterError as error:
        return as_html({"handle": repr(handle), error.code: error.message})


@contextmanager
def progress_bar(what: str) -> Generator[Advance, None, None]:
    """A bar in a terminal or a notebook: it is told how many are done, and of how many if that is known."""
    from rich import progress as rich_progress  # noqa: PLC0415 - loaded only where something is shown

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def counted(
    values: Generator[object, None, None], what: str, total: int | None
) -> Generator[object, None, None]:
    """The same values, with a bar that counts them; closing it closes their source."""
    with closing(values), progress_bar(what) as advance:
        for number, value in enumerate(values, 1):
            yield value
            advance(number, total)


def _error(error: Mapping[str, Any] | None) -> str | None:
    return f"{error.get('code')}: {error.get('message')}" if error else None
