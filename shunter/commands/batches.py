"""`shunter batches`: how full the batches were, and why each was closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import click

from shunter.commands.output import as_json_option, print_json, print_table
from shunter.storage.settings import Settings

Document = Mapping[str, Any]


@click.command()
@click.argument("model", required=False)
@as_json_option
def batches(*, model: str | None, as_json: bool) -> None:
    """Show how full the batches of each model version were, and why they were closed.

    Given a MODEL, its latest batches too. FILL is rows over what full batches would have held, QUEUE the
    mean wait of a batch's oldest row, BUSY the share of the last minute that the model ran.

    \b
    full      as many rows as are worth having in one batch     wait      max_wait_s was over
    tokens    the token budget was spent                        deadline  a job would have been late
    idle      the model was free and nothing more was coming    drain     the worker was stopping
    alone     a suspect ran by itself
    \b
    shunter batches MODEL
    """
    versions = _look(model)
    if as_json:
        print_json(versions)
        return
    print_table(COLUMNS, [version_row(version) for version in versions])
    if not versions:
        click.echo(f"no live worker has run a batch{f' of {model}' if model else ''} yet", err=True)
    for version in versions if model else ():
        click.echo(f"\nlatest batches of version {version['version']}:")
        print_table(RECENT_COLUMNS, [recent_row(batch) for batch in version["recent"]])


COLUMNS = (
    "MODEL",
    "VERSION",
    "BATCHES",
    "ROWS/BATCH",
    "FILL",
    "PADDING",
    "QUEUE",
    "BUSY",
    "ROWS/S",
    "CLOSED",
)
RECENT_COLUMNS = ("AGE", "ROWS", "OF", "JOBS", "CLOSED", "QUEUE", "PREPROCESS", "FORWARD", "POSTPROCESS")


def version_row(version: Document) -> tuple[object, ...]:
    """One line of the table of model versions."""
    total = version["batches"] or 1
    mean_rows = version["mean_rows"]
    return (
        version["model"],
        version["version"],
        version["batches"],
        None if mean_rows is None else f"{mean_rows:.1f}",
        _percent(version["fill"]),
        _percent(version["padding"]),
        _duration(version["queue_s"]),
        _percent(version["busy"]),
        f"{version['rows_per_s']:,.0f}",
        ", ".join(f"{reason} {count / total:.0%}" for reason, count in version["reasons"].items()),
    )


def recent_row(batch: Document) -> tuple[object, ...]:
    """One line of the table of latest batches."""
    times = [_duration(batch[f"{stage}_s"]) for stage in ("wait", "preprocess", "forward", "postprocess")]
    age = f"{batch['age_s']:.1f} s"
    return (age, batch["rows"], batch["full_rows"], batch["jobs"], batch["reason"], *times)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1000:.1f} ms"


def _look(model: str | None) -> Sequence[Document]:
    settings = Settings.from_environment()
    if settings.api_url and not settings.database_url:
        return _look_through_api(settings, model)
    return _look_into_database(settings, model)


def _look_through_api(settings: Settings, model: str | None) -> Sequence[Document]:
    from shunter.producers.http import HttpBackend

    with closing(HttpBackend(settings.api_url, api_key=settings.api_key)) as api:
        known = [model] if model else [m["name"] for m in api.request("GET", "/v1/models")["models"]]
        told = [api.request("GET", f"/v1/models/{name}/batches") for name in known]
    return [{"model": of["model"], **version} for of in told for version in of["versions"]]


def _look_into_database(settings: Settings, model: str | None) -> Sequence[Document]:
    from shunter.storage.database import Database
    from shunter.storage.worker_registry import WorkerRegistry, batches_by_version

    with closing(Database(settings.require("database_url").database_url, pool_size=1)) as database:
        told = batches_by_version(WorkerRegistry(database).present(), model=model)
    return [{"model": name, "version": version, **report} for (name, version), report in told.items()]
