"""Commands about schedules: add one, look at it, hold it, run it, catch up on past days, read its history."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from shunter.commands.output import as_json_option, print_json, print_table
from shunter.commands.schedule_add import add
from shunter.commands.schedule_output import (
    backfill_words,
    echo_next,
    history_line,
    in_utc,
    next_window,
    print_schedule,
)

if TYPE_CHECKING:
    from shunter.producers.schedules.request import ScheduleStatus, WindowStatus

EXIT_FAILED = 1
DAY = click.DateTime(formats=["%Y-%m-%d"])

name_argument = click.argument("name")


def _instant(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: give an instant as 2026-01-31T02:00+01:00") from error
    if moment.tzinfo is None:
        raise click.BadParameter(f"{text!r}: say the offset too, as 2026-01-31T02:00+01:00 or ...Z")
    return moment


@click.group()
def schedule() -> None:
    """Score a dataset every night, or whenever a cron line says; the fleet fires it, without a process more.

    \b
    A first schedule, step by step:
      shunter schedule add nightly --cron '0 2 * * *' --timezone Europe/Berlin --model digits \\
          --input 's3://lake/{date}/*.parquet' --output 's3://scored/{date}'
      shunter schedule show nightly         when its next windows begin
      shunter schedule run nightly          the latest window now, without waiting for the night
      shunter schedule history nightly      one line for each window, and what became of it
      shunter schedule backfill nightly --from 2026-01-01 --to 2026-01-30
    """


schedule.add_command(add)


@schedule.command("list")
@as_json_option
def list_schedules(*, as_json: bool) -> None:
    """List the schedules, and when each begins next.

    \b
    shunter schedule list
    """
    from shunter.producers.client import Client
    from shunter.producers.schedules.documents import schedule_document

    found: list[ScheduleStatus] = []
    with Client() as client:
        while page := client.backend.schedules.find(after=found[-1].name if found else ""):
            found += page
    if as_json:
        print_json([schedule_document(status) for status in found])
        return
    print_table(
        ["NAME", "CRON", "TIMEZONE", "MODEL", "NEXT WINDOW", "BACKFILL"],
        [
            (
                status.name,
                status.definition["cron"],
                status.definition["timezone"],
                status.definition["request"]["model"],
                next_window(status),
                backfill_words(status),
            )
            for status in found
        ],
    )


@schedule.command()
@name_argument
@as_json_option
def show(name: str, *, as_json: bool) -> None:
    """Show what a schedule says, and when its next windows begin.

    \b
    shunter schedule show nightly
    """
    from shunter.producers.client import Client

    with Client() as client:
        print_schedule(client.schedule(name).status(), as_json=as_json)


@schedule.command()
@name_argument
@click.option("--backfill", "backfill_only", is_flag=True, help="Only its backfill.")
def pause(name: str, *, backfill_only: bool) -> None:
    """Begin no window any more; what is under way goes on.

    \b
    shunter schedule pause nightly
    shunter schedule pause nightly --backfill
    """
    from shunter.producers.client import Client

    with Client() as client:
        handle = client.schedule(name)
        _ = handle.pause_backfill() if backfill_only else handle.pause()
    click.echo(f"paused: `shunter schedule resume {name}{' --backfill' * backfill_only}` lets it go on")


@schedule.command()
@name_argument
@click.option("--backfill", "backfill_only", is_flag=True, help="Only its backfill.")
def resume(name: str, *, backfill_only: bool) -> None:
    """Let a schedule go on; windows that passed meanwhile are missed, and treated as --missed said.

    \b
    shunter schedule resume nightly
    shunter schedule resume nightly --backfill
    """
    from shunter.producers.client import Client

    with Client() as client:
        handle = client.schedule(name)
        echo_next(handle.resume_backfill() if backfill_only else handle.resume())


@schedule.command()
@name_argument
@click.option("--window", callback=_instant, metavar="INSTANT", help="When it begins.  [default: the latest]")
@click.option("--again", is_flag=True, help="Another time, if it was skipped, failed or cancelled.")
@as_json_option
def run(name: str, *, window: datetime | None, again: bool, as_json: bool) -> None:
    """Fire a window now; one that was fired already is left alone, and shown.

    \b
    shunter schedule run nightly
    shunter schedule run nightly --window 2026-01-31T02:00+01:00 --again
    """
    from shunter.producers.client import Client
    from shunter.producers.schedules.documents import window_document

    with Client() as client:
        status = client.schedule(name).run(window=window, again=again)
    if as_json:
        print_json(window_document(status))
        return
    click.echo(f"the window of {in_utc(status.window_start)} is {status.state}")
    if status.error is not None:
        click.echo(f"  {status.error['code']}: {status.error['message']}")
    if status.state in ("failed", "skipped", "cancelled"):
        click.echo(f"  shunter schedule run {name} --again   tries it another time")
        raise click.exceptions.Exit(EXIT_FAILED)


@schedule.command()
@name_argument
@click.option("--from", "first", type=DAY, required=True, help="The first day, in the schedule's time zone.")
@click.option("--to", "last", type=DAY, required=True, help="The last one.")
@click.option(
    "--at-once", type=click.IntRange(1, 64), default=1, show_default=True, help="So many at a time."
)
def backfill(name: str, *, first: datetime, last: datetime, at_once: int) -> None:
    """Score the windows of past days, each once; those that have a dataset are left out.

    It goes on beside the nightly windows. `pause NAME --backfill` holds it, `resume NAME --backfill` lets it
    go on where it stopped, and the same command again adds what has failed.

    \b
    shunter schedule backfill nightly --from 2026-01-01 --to 2026-01-30
    """
    from shunter.producers.client import Client

    with Client() as client:
        queued = client.schedule(name).backfill(first.date(), last.date(), at_once=at_once)
    click.echo(f"{queued} windows are queued: `shunter schedule history {name}` shows them")


@schedule.command()
@name_argument
@click.option("--limit", type=click.IntRange(1, 1000), default=30, show_default=True, help="So many at most.")
@as_json_option
def history(name: str, *, limit: int, as_json: bool) -> None:
    """Show one line for each window, the latest first: its state, rows, failures, time, drift and report.

    \b
    shunter schedule history nightly
    shunter schedule history nightly --json
    """
    from shunter.producers.client import Client
    from shunter.producers.schedules.documents import window_document

    found: list[WindowStatus] = []
    with Client() as client:
        handle = client.schedule(name)
        while len(found) < limit:
            before = found[-1].window_start if found else None
            page = handle.history(before=before, limit=min(100, limit - len(found)))
            found += page
            if not page:
                break
    if as_json:
        print_json([window_document(status) for status in found])
        return
    print_table(
        ["WINDOW", "STATE", "ROWS", "FAILED", "TIME", "DRIFT", "REPORT", "WHY"],
        [history_line(status) for status in found],
    )


@schedule.command()
@name_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(name: str, *, yes: bool) -> None:
    """Forget a schedule and its history; scorings under way go on, and datasets stay.

    \b
    shunter schedule remove nightly
    """
    from shunter.producers.client import Client

    if not yes:
        click.confirm(f"forget the schedule {name} and its history?", abort=True, err=True)
    with Client() as client:
        client.schedule(name).remove()
    click.echo(f"the schedule {name} is removed")
