"""Commands about scorings: run a model over a dataset, watch it, list them."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from shunter.commands.output import as_json_option, print_json, print_table

if TYPE_CHECKING:
    from shunter.producers.client import PriorityName
    from shunter.producers.scoring.estimate import Estimate
    from shunter.producers.scoring.handle import Scoring
    from shunter.producers.scoring.request import ScoringStatus

EXIT_FAILED = 1
EXIT_ROW_ERRORS = 3

LOOK_S = 0.25
"""How often the progress is looked at."""

REPORT_WAIT_S = 5.0
"""So long the end waits for the report, which tells why rows failed."""


def names(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """A repeated option whose values may hold several names, with commas between them."""
    return tuple(name for part in value for name in part.split(",") if name)


@click.command()
@click.argument("model", required=False)
@click.option("--input", "input_", metavar="GLOB|URL", help="A file, directory, glob or s3:// prefix.")
@click.option("--query", metavar="SQL", help="Score its rows; --input is then the URL of a Postgres.")
@click.option("--output", metavar="DIR|URL", help="A directory or s3:// prefix that does not exist yet.")
@click.option("--column", "columns", multiple=True, callback=names, metavar="A,B", help="What makes a row.")
@click.option("--key", metavar="K", help="The column that names the rows.")
@click.option("--keep", multiple=True, callback=names, metavar="C,D", help="Columns to carry to the output.")
@click.option("--fetch", multiple=True, callback=names, metavar="E,F", help="Columns of URLs to fetch.")
@click.option("--version", type=click.IntRange(min=1), help="The model version.  [default: the newest]")
@click.option(
    "--format", type=click.Choice(["parquet", "jsonl", "csv"]), default="parquet", show_default=True
)
@click.option(
    "--input-format",
    type=click.Choice(["parquet", "jsonl", "csv", "files"]),
    help="If names do not tell it; files: each is a row.",
)
@click.option("--max-errors", metavar="N|P%", help="Stop when more rows than that have failed.")
@click.option("--keep-failed", is_flag=True, help="Keep failed rows in the output, with null predictions.")
@click.option(
    "--priority",
    type=click.Choice(["interactive", "standard", "bulk"]),
    default="bulk",
    show_default=True,
)
@click.option("--chunk-rows", type=click.IntRange(min=1), help="Rows to a chunk.  [default: measured]")
@click.option("--check-keys", is_flag=True, help="Refuse an input in which two rows have one key.")
@click.option("--force", is_flag=True, help="Score anew, and replace what is at the output.")
@click.option("--compare-to", metavar="ID", help="Compare columns with this scoring's.  [default: the last]")
@click.option("--retry-errors", metavar="ID", help="Run the failed rows of an earlier scoring again.")
@click.option("--dry-run", is_flag=True, help="Say how many rows there are and how long they take, and end.")
@click.option("--detach", is_flag=True, help="Print the id at once, and end.")
@as_json_option
def score(
    model: str | None,
    *,
    input_: str | None,
    output: str | None,
    version: int | None,
    priority: PriorityName,
    retry_errors: str | None,
    dry_run: bool,
    detach: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run MODEL over a dataset; the same command again is the same scoring.

    Exits with 0 when every row has a prediction, with 3 when some failed, with 1 when the scoring did.

    \b
    shunter score digits --input 'images/*.parquet' --output scored --column pixels --key id
    shunter score spam --input postgresql://db/mail --query 'SELECT id, text FROM mails' --output out --key id
    shunter score --retry-errors 0197a3c2-6d1e-7c4f-9b1a-5a0f6de2c1aa
    """
    from shunter.producers.client import Client
    from shunter.producers.scoring.request import scoring_document
    from shunter.storage.scoring.request import ScoringRequest

    with Client() as client:
        if retry_errors is not None:
            scoring = client.retry_errors(retry_errors, output=output, version=version)
        else:
            if model is None or input_ is None or output is None:
                raise click.UsageError("give MODEL, --input and --output, or --retry-errors ID")
            asked = {**options, "version": version, "priority": priority}
            if dry_run:
                asked.pop("query")
                request = ScoringRequest(model=model, input=input_, output=output, **asked)
                _print_estimate(client.backend.scorings.estimate(request), as_json=as_json)
                return
            scoring = client.score(model, input_, output, **asked)
        if detach:
            click.echo(scoring.id)
            return
        status = _watch(scoring, quiet=as_json)
        if as_json:
            print_json(scoring_document(status))
        else:
            click.echo(_summary(status))
            if status.failed and status.state == "complete":
                click.echo(_commonest_failure(scoring))
        _end(status)


@click.command()
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="So many at most.")
@click.option("--cancel", "cancelled", metavar="ID", help="Cancel this one.")
@as_json_option
def scorings(*, limit: int, cancelled: str | None, as_json: bool) -> None:
    """List the scorings, the newest first; or cancel one.

    \b
    shunter scorings
    shunter scorings --cancel 0197a3c2-6d1e-7c4f-9b1a-5a0f6de2c1aa
    """
    from shunter.producers.client import Client
    from shunter.producers.scoring.request import scoring_document

    with Client() as client:
        if cancelled is not None:
            found = [client.scoring(cancelled).cancel()]
        else:
            found = [*client.backend.scorings.find(limit=limit)]
    if as_json:
        print_json([scoring_document(status) for status in found])
        return
    print_table(
        ["ID", "STATE", "MODEL", "ROWS", "FAILED", "ROWS/S", "DRIFTED", "OUTPUT"],
        [
            (
                status.id,
                status.state,
                f"{status.model}:{status.version}",
                _progress(status),
                status.failed,
                f"{status.rows_per_s:.0f}",
                {None: "-", True: "yes", False: "no"}[status.drifted],
                status.output,
            )
            for status in found
        ],
    )


def _progress(status: ScoringStatus) -> str:
    total = "?" if status.total is None else str(status.total)
    return f"{status.succeeded + status.failed}/{total}"


def _watch(scoring: Scoring, *, quiet: bool) -> ScoringStatus:
    """Show the progress until the end; closing the terminal only ends the watching."""
    try:
        return scoring.wait() if quiet or not sys.stderr.isatty() else _show(scoring)
    except KeyboardInterrupt:
        click.echo(
            f"\nthe scoring {scoring.id} goes on without this terminal:\n"
            f"  the same command again shows its progress\n"
            f"  shunter scorings --cancel {scoring.id}   ends it",
            err=True,
        )
        raise


def _show(scoring: Scoring) -> ScoringStatus:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    texts = ("rows", "rate", "left", "failed")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *(TextColumn(f"{{task.fields[{text}]}}") for text in texts),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(scoring.id, total=None, rows="", rate="", left="", failed="")
        while not (status := scoring.status()).done:
            left = "" if status.eta_s is None else f"{duration(status.eta_s)} left"
            progress.update(
                task,
                total=status.total,
                completed=status.succeeded + status.failed,
                rows=f"{_progress(status)} rows",
                rate=f"{status.rows_per_s:.0f}/s",
                left=left,
                failed=f"{status.failed} failed",
            )
            time.sleep(LOOK_S)
    return status


def duration(seconds: float) -> str:
    """Seconds in words of a clock."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _end(status: ScoringStatus) -> None:
    if status.state != "complete":
        raise click.exceptions.Exit(EXIT_FAILED)
    if status.failed:
        raise click.exceptions.Exit(EXIT_ROW_ERRORS)


def _commonest_failure(scoring: Scoring) -> str:
    """Why most of the failed rows failed, or who can tell."""
    from shunter.storage.errors import ShunterError

    try:
        worst = scoring.report(timeout=REPORT_WAIT_S)["failures"][0]
    except ShunterError:
        return f"failed   shunter report {scoring.id} tells why"
    return f"failed   {worst['rows']} x {worst['code']}: {worst['example']}"


def _summary(status: ScoringStatus) -> str:
    facts: dict[str, object] = {
        "scoring": status.id,
        "state": status.state,
        "model": f"{status.model} version {status.version}",
        "rows": f"{_progress(status)}, {status.succeeded} succeeded, {status.failed} failed",
        "rate": f"{status.rows_per_s:.0f} rows/s",
        "output": status.output,
        "errors": f"{status.output}/_errors" if status.failed and status.state == "complete" else None,
        "error": status.error and f"{status.error.get('code')}: {status.error.get('message')}",
    }
    return "\n".join(f"{name:<8} {value}" for name, value in facts.items() if value is not None)


def _print_estimate(estimate: Estimate, *, as_json: bool) -> None:
    if as_json:
        print_json(estimate)
        return
    for line in estimate.lines():
        click.echo(line)
