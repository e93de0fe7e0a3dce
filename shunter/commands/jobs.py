"""Commands about jobs: submit them, look at them, take their results, cancel them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

import click

from shunter.commands.output import as_json_option, print_json, print_table
from shunter.storage.errors import InvalidInput, NotFinished

if TYPE_CHECKING:
    from shunter.producers.client import PriorityName
    from shunter.producers.handles import Item, Job
    from shunter.producers.status import JobStatus
    from shunter.producers.timeline import Event

EXIT_ROWS_FAILED = 1


@click.command()
@click.argument("model")
@click.option("--row", "rows", multiple=True, metavar="JSON", help="One row; may be given several times.")
@click.option("--file", "file", type=click.File(), help="A file with one JSON row per line; - is stdin.")
@click.option("--version", type=click.IntRange(min=1), help="The model version.  [default: the newest]")
@click.option(
    "--priority",
    type=click.Choice(["interactive", "standard", "bulk"]),
    default="standard",
    show_default=True,
)
@click.option("--deadline-s", type=float, help="Seconds from now by which it must have finished.")
@click.option("--idempotency-key", help="A second submit under the same key returns the first one's job.")
@click.option("--wait", is_flag=True, help="Wait for the outputs, and print them instead of the id.")
@as_json_option
def submit(
    model: str,
    *,
    rows: tuple[str, ...],
    file: TextIO | None,
    version: int | None,
    priority: PriorityName,
    deadline_s: float | None,
    idempotency_key: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Submit rows to MODEL as one job, and print its id.

    \b
    shunter submit digits --row '[0, 3, 12]' --row '[1, 0, 9]' --wait
    shunter submit digits --file rows.jsonl
    jq -c .pixels images.json | shunter submit digits --priority bulk
    """
    values = _read_rows(rows, file)
    from shunter.producers.client import Client

    with Client() as client:
        job = client.submit(
            model,
            values,
            version=version,
            priority=priority,
            deadline_s=deadline_s,
            idempotency_key=idempotency_key,
        )
        if wait:
            _print_results(job, as_json=as_json)
        elif as_json:
            _print_status(job.status(), as_json=True)
        else:
            click.echo(job.id)


@click.command()
@click.argument("id")
@click.option("--timeline", is_flag=True, help="Show what happened to it, and when.")
@as_json_option
def status(id: str, *, timeline: bool, as_json: bool) -> None:
    """Show where the job or item ID stands.

    \b
    shunter status 0197a3c2-6d1e-7c4f-9b1a-5a0f6de2c1aa --timeline
    """
    from shunter.producers.client import Client

    with Client() as client:
        handle = client.job(id)
        status = handle.status()
        if not timeline:
            _print_status(status, as_json=as_json)
        elif as_json:
            print_json([event.document() for event in handle.timeline()])
        else:
            _print_status(status, as_json=False)
            click.echo()
            _print_timeline(handle.timeline())


@click.command()
@click.argument("id")
@click.option("--wait", is_flag=True, help="Wait until it has finished.")
@as_json_option
def results(id: str, *, wait: bool, as_json: bool) -> None:
    """Print the outputs of the job or item ID, one JSON value per line, in row order.

    A failed row prints null, and its error on stderr; the exit code is then 1.

    \b
    shunter results 0197a3c2-6d1e-7c4f-9b1a-5a0f6de2c1aa --wait > outputs.jsonl
    """
    from shunter.producers.client import Client

    with Client() as client:
        handle = client.job(id)
        if not wait and not (now := handle.status()).done:
            raise NotFinished(id, now.state)
        _print_results(handle, as_json=as_json)


@click.command()
@click.argument("id")
@as_json_option
def cancel(id: str, *, as_json: bool) -> None:
    """Cancel the job ID, whether it has begun or not.

    \b
    shunter cancel 0197a3c2-6d1e-7c4f-9b1a-5a0f6de2c1aa
    """
    from shunter.producers.client import Client

    with Client() as client:
        _print_status(client.job(id).cancel(), as_json=as_json)


def _read_rows(rows: tuple[str, ...], file: TextIO | None) -> list[object]:
    if rows and file:
        raise click.UsageError("give either --row or --file, not both")
    if rows:
        return [_row(text, f"--row {number}") for number, text in enumerate(rows, 1)]
    source = file or sys.stdin
    if source.isatty():
        raise click.UsageError(
            "no rows: give --row JSON, --file rows.jsonl, or rows on stdin, one JSON value per line"
        )
    return list(_lines(source))


def _lines(source: TextIO) -> Iterator[object]:
    for number, line in enumerate(source, 1):
        if line.strip():
            yield _row(line, f"line {number}")


def _row(text: str, where: str) -> object:
    import orjson

    from shunter.storage.payload_json import from_json

    try:
        value = orjson.loads(text)
    except ValueError as error:
        raise InvalidInput(
            f"{where} is not JSON ({error}): give one JSON value, such as '[1, 2]' or '\"text\"'"
        ) from error
    return from_json(value, where=where)


def _print_status(status: JobStatus, *, as_json: bool) -> None:
    if as_json:
        from shunter.producers.documents import job_document

        print_json(job_document(status))
        return
    from shunter.producers.showing import job_facts

    for name, value in job_facts(status).items():
        click.echo(f"{name:<9} {value}")


def _print_timeline(events: Sequence[Event]) -> None:
    from shunter.commands.quarantine import printable

    first = events[0].at
    print_table(
        ["AT", "AFTER", "WHAT", "DETAIL"],
        [
            (event.at, f"{(event.at - first).total_seconds():.3f} s", event.what, printable(event.detail))
            for event in events
        ],
    )


def _print_results(handle: Job | Item, *, as_json: bool) -> None:
    outputs, errors = handle.outputs(errors="none"), handle.errors()
    if as_json:
        from shunter.producers.documents import results_document
        from shunter.producers.outputs import JobResults

        state = handle.status().state
        stored = JobResults(id=handle.id, state=state, outputs=outputs, failures=tuple(errors))
        print_json(results_document(stored))
    else:
        for output in outputs:
            print_json(output, indent=False)
        for failure in errors:
            click.echo(f"error: row {failure.index}: {failure.code}: {failure.message}", err=True)
    if errors:
        raise click.exceptions.Exit(EXIT_ROWS_FAILED)
