"""`shunter schedule add`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from shunter.commands.durations import DURATION
from shunter.commands.output import as_json_option
from shunter.commands.schedule_output import print_schedule
from shunter.commands.score import names

if TYPE_CHECKING:
    from shunter.producers.client import MissedName, OverlapName

FORMATS = ["parquet", "jsonl", "csv"]
PRIORITIES = ["interactive", "standard", "bulk"]


@click.command("add")
@click.argument("name")
@click.option("--cron", required=True, metavar="LINE", help="minute hour day month weekday: '0 2 * * *'.")
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="Such as Europe/Berlin.")
@click.option("--model", required=True, help="The model that scores.")
@click.option("--version", type=click.IntRange(min=1), help="Its version.  [default: the newest at the time]")
@click.option("--input", "input_", required=True, metavar="GLOB|URL", help="With {date}, or without.")
@click.option("--output", required=True, metavar="DIR|URL", help="With {date}: each window has its own.")
@click.option("--column", "columns", multiple=True, callback=names, metavar="A,B", help="What makes a row.")
@click.option("--key", metavar="K", help="The column that names the rows.")
@click.option("--keep", multiple=True, callback=names, metavar="C,D", help="Columns to carry to the output.")
@click.option("--format", type=click.Choice(FORMATS), default="parquet", show_default=True)
@click.option("--input-format", type=click.Choice(FORMATS), help="If names do not tell it.")
@click.option("--max-errors", metavar="N|P%", help="Stop a window when more rows than that have failed.")
@click.option("--keep-failed", is_flag=True, help="Keep failed rows in the output, with null predictions.")
@click.option("--priority", type=click.Choice(PRIORITIES), default="bulk", show_default=True)
@click.option("--chunk-rows", type=click.IntRange(min=1), help="Rows to a chunk.  [default: measured]")
@click.option(
    "--missed",
    type=click.Choice(["catch-up", "skip", "latest"]),
    default="catch-up",
    show_default=True,
    help="Windows that began while no worker was there: all, none, or only the latest of them.",
)
@click.option(
    "--overlap",
    type=click.Choice(["queue", "skip"]),
    default="queue",
    show_default=True,
    help="A window that begins while an earlier one is under way.",
)
@click.option(
    "--wait-for-input",
    type=DURATION,
    default="0s",
    show_default=True,
    metavar="TIME",
    help="Look for missing input so long, such as 2h, before the window fails.",
)
@click.option("--finish-by", metavar="HH:MM", help="Warn when the measured rate says it will be later.")
@click.option("--may-raise-priority", is_flag=True, help="And let the rest go as standard instead of bulk.")
@click.option("--incremental", is_flag=True, help="Score only files that no earlier window has.")
@click.option(
    "--incremental-by", metavar="COLUMN", help="Score only rows with a COLUMN greater than any scored before."
)
@as_json_option
def add(
    name: str,
    *,
    cron: str,
    timezone: str,
    input_: str,
    missed: MissedName,
    overlap: OverlapName,
    wait_for_input: float,
    finish_by: str | None,
    may_raise_priority: bool,
    incremental: bool,
    incremental_by: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Add the schedule NAME; its windows begin from now on. The same command again changes nothing.

    \b
    In --input and --output
      {date}             is the window's date in --timezone, as 2026-01-31
      {date:%Y/%m/%d}    is written as strftime does
      {date-1d}          is the day before
      {window_start}     is the instant in UTC, as 20260131T010000Z, for lines that fire more than daily

    \b
    shunter schedule add nightly --cron '0 2 * * *' --timezone Europe/Berlin --model digits \\
        --input 's3://lake/{date-1d:%Y/%m/%d}/*.parquet' --output 's3://scored/{date-1d}' --key id \\
        --wait-for-input 2h --finish-by 06:00
    """
    from shunter.producers.client import Client
    from shunter.storage.scoring.request import ScoringRequest

    with Client() as client:
        added = client.add_schedule(
            name,
            ScoringRequest(input=input_, **asked),
            cron=cron,
            timezone=timezone,
            missed=missed,
            overlap=overlap,
            wait_for_input_s=wait_for_input,
            finish_by=finish_by,
            may_raise_priority=may_raise_priority,
            incremental=incremental,
            incremental_by=incremental_by,
        )
        print_schedule(added.status(), as_json=as_json)
