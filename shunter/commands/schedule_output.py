"""How commands print schedules and their windows."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from shunter.commands.output import print_json
from shunter.commands.score import duration

if TYPE_CHECKING:
    from shunter.producers.schedules.request import ScheduleStatus, WindowStatus


def print_schedule(status: ScheduleStatus, *, as_json: bool) -> None:
    """What a schedule says, and when it goes on."""
    from shunter.producers.schedules.documents import schedule_document

    document = schedule_document(status)
    if as_json:
        print_json(document)
        return
    facts = {**status.definition, **status.definition["request"]}
    del facts["request"]
    for fact, value in {"name": status.name, **facts, "watermark": status.watermark}.items():
        if value not in (None, False, (), []):
            click.echo(f"{fact:<18} {', '.join(value) if isinstance(value, list | tuple) else value}")
    click.echo(f"{'backfill':<18} {backfill_words(status) or 'none'}")
    echo_next(status)


def echo_next(status: ScheduleStatus) -> None:
    """When its next window begins."""
    click.echo(f"{'next window':<18} {next_window(status)}")


def next_window(status: ScheduleStatus) -> str:
    """That in words."""
    return "paused" if status.paused else ", ".join(in_utc(start) for start in status.next_windows[:1])


def backfill_words(status: ScheduleStatus) -> str:
    """How its backfill stands, nothing if there is none."""
    backfill = status.backfill
    if not (backfill.pending or backfill.running):
        return ""
    held = ", paused" if backfill.paused else ""
    return f"{backfill.pending} pending, {backfill.running} running{held}"


def history_line(status: WindowStatus) -> tuple[object, ...]:
    """The cells of a window in the history."""
    done = status.succeeded + status.failed
    told = [status.error and f"{status.error['code']}: {status.error['message']}", status.warning]
    return (
        in_utc(status.window_start),
        status.state,
        done if status.scoring else "",
        status.failed if status.scoring else "",
        "" if status.seconds is None else duration(status.seconds),
        status.drift,
        f"shunter report {status.scoring}" if status.scoring else "",
        "; ".join(text for text in told if text),
    )


def in_utc(start: datetime) -> str:
    """An instant in UTC."""
    return f"{start:%Y-%m-%d %H:%M}Z"
