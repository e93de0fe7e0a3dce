"""Commands about dead jobs: look at them, see why every run failed, and run their failed rows again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from shunter.commands.output import as_json_option, print_json, print_table
from shunter.commands.quarantine import printable
from shunter.storage.errors import ShunterError, Unavailable
from shunter.storage.settings import Settings

if TYPE_CHECKING:
    from shunter.producers.direct import DirectBackend
    from shunter.storage.dead_jobs import Filter
    from shunter.storage.job import Job

MAX_MESSAGE_CHARS = 100
PAGE = 100
EXIT_SKIPPED = 1

UNITS_S = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


class Span(click.ParamType[float]):
    """How long ago, in seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"([0-9]{1,6})(s|min|h|d)", str(value))
        if match is None:
            self.fail(f"{value!r} is no span of time: give 90s, 30min, 24h or 7d", param, ctx)
        return float(match[1]) * UNITS_S[match[2]]


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which jobs are meant."""
    options = (
        click.option("--model", help="Only jobs of this model."),
        click.option("--code", help="Only jobs that failed with this error code."),
        click.option("--since", "since_s", type=Span(), help="Only what ended within 90s, 30min, 24h, 7d."),
        click.option("--rows", "partial", is_flag=True, help="Jobs that succeeded with failed rows, too."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def dead() -> None:
    """Jobs that failed for good; they keep their rows, which can be run again.

    \b
    shunter dead list --since 24h
    """


@dead.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(min=1), default=PAGE, show_default=True, help="So many at most.")
@as_json_option
def list_dead(
    *,
    model: str | None,
    code: str | None,
    since_s: float | None,
    partial: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List dead jobs, the newest first.

    \b
    shunter dead list --model digits --code engine_died
    """
    with _opened() as backend:
        jobs = backend.dead.find(_filter(model, code, since_s, partial=partial), limit=limit)
    if as_json:
        print_json([_document(job) for job in jobs])
        return
    print_table(
        ["ID", "MODEL", "ROWS FAILED", "ENDED", "ATTEMPTS", "DEATHS", "ERROR"],
        [
            (
                job.id,
                f"{printable(job.model)}:{job.version}",
                f"{job.rows_failed} of {job.rows}",
                job.finished_at,
                job.attempts,
                job.deaths,
                _error(job),
            )
            for job in jobs
        ],
    )


@dead.command("show")
@click.argument("id", type=click.UUID)
@as_json_option
def show_dead(id: UUID, *, as_json: bool) -> None:
    """Show why the job ID is dead: its last runs, each with when, where and why it failed.

    \b
    shunter dead show 0197a3c2-6d1e-7c4f-9b1a-5a0f6de2c1aa
    """
    with _opened() as backend:
        job, history = backend.repository.get(id), backend.dead.history(id)
    if as_json:
        print_json({**_document(job), "history": [asdict(attempt) for attempt in history]})
        return
    click.echo(f"id       {job.id}")
    click.echo(f"state    {job.state}, {job.rows_failed} of {job.rows} rows failed")
    click.echo(f"model    {printable(job.model)} version {job.version}")
    click.echo(f"counted  {job.attempts} attempts, {job.deaths} deaths of its engine")
    if job.redriven_from is not None:
        click.echo(f"redrives {job.redriven_from}")
    click.echo(f"error    {_error(job, None)}\n")
    print_table(
        ["RUN", "ENDED", "WORKER", "CODE", "MESSAGE"],
        [
            (
                run.epoch,
                run.at,
                run.worker and printable(run.worker),
                printable(run.code),
                printable(run.message),
            )
            for run in history
        ],
    )


@dead.command("redrive")
@click.argument("ids", metavar="[ID]...", type=click.UUID, nargs=-1)
@filter_options
@click.option("--all", "all_", is_flag=True, help="Every dead job that the other options leave.")
@click.option(
    "--version", type=click.IntRange(min=1), help="Run them with this version.  [default: their own]"
)
@click.option("--again", is_flag=True, help="Submit another job even for what was redriven before.")
@as_json_option
def redrive_dead(
    ids: tuple[UUID, ...],
    *,
    model: str | None,
    code: str | None,
    since_s: float | None,
    partial: bool,
    all_: bool,
    version: int | None,
    again: bool,
    as_json: bool,
) -> None:
    """Submit a new job with the failed rows of each job named, and print old and new ids.

    Redriving twice gives the same new job, so that this can be repeated after an interruption.

    \b
    shunter dead redrive 0197a3c2-6d1e-7c4f-9b1a-5a0f6de2c1aa --version 4
    shunter dead redrive --all --model digits --code engine_died --since 24h
    """
    if bool(ids) == all_:
        raise click.UsageError("name the jobs to redrive, or give --all with a filter, and not both")
    if ids and (model or code or since_s is not None):
        raise click.UsageError("ids say which jobs are meant: give no filter with them")
    done: dict[UUID, UUID] = {}
    skipped: list[str] = []
    with _opened() as backend:
        wanted = _filter(model, code, since_s, partial=partial)
        for id in _every(backend, wanted) if all_ else ids:
            try:
                done[id] = backend.redrive(id, version=version, again=again).id
            except Unavailable:
                raise
            except ShunterError as error:
                skipped.append(error.message)
            else:
                if not as_json:
                    click.echo(f"{id} {done[id]}")
    if as_json:
        print_json({"redriven": done, "skipped": skipped})
    for message in skipped:
        click.echo(f"not redriven: {message}", err=True)
    raise click.exceptions.Exit(EXIT_SKIPPED if skipped else 0)


def _every(backend: DirectBackend, wanted: Filter) -> Iterator[UUID]:
    before = None
    while page := backend.dead.find(wanted, before=before, limit=PAGE):
        yield from (job.id for job in page)
        before = page[-1].id


def _filter(model: str | None, code: str | None, since_s: float | None, *, partial: bool) -> Filter:
    from shunter.storage.dead_jobs import Filter

    return Filter(model=model, code=code, since_s=since_s, partial=partial)


@contextmanager
def _opened() -> Iterator[DirectBackend]:
    from shunter.producers.direct import DirectBackend

    with closing(DirectBackend(Settings.from_environment())) as backend:
        yield backend


def _document(job: Job) -> dict[str, Any]:
    facts: Iterable[str] = ("id", "model", "version", "state", "rows", "rows_failed", "attempts", "deaths")
    times = ("error", "created_at", "finished_at", "redriven_from")
    return {name: getattr(job, name) for name in (*facts, *times)}


def _error(job: Job, limit: int | None = MAX_MESSAGE_CHARS) -> str:
    error = job.error or {"code": "rows_failed", "message": "some of its rows failed"}
    return printable(f"{error.get('code')}: {error.get('message')}", limit)
