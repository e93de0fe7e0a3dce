"""Commands that list what there is: workers and models, from Postgres or through the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from shunter.commands.output import as_json_option, print_json, print_table
from shunter.storage.settings import Settings
from shunter.storage.sizes import format_size

if TYPE_CHECKING:
    from shunter.storage.model_registry import RegisteredModel
    from shunter.storage.worker_registry import Worker

Document = Mapping[str, Any]

ABOUT = ("WORKER", "POOL", "STATE", "BEAT", "DEVICE", "MEMORY", "SERVES")


@click.command()
@as_json_option
def workers(*, as_json: bool) -> None:
    """List the workers, what they serve, and how their batches were.

    \b
    shunter workers
    """
    present, _ = _look()
    if as_json:
        print_json(present)
        return
    print_table(
        [*ABOUT, "NOW", "BATCHES", "ROWS", "ROWS/BATCH"],
        [worker_row(worker) for worker in present],
    )


@click.group()
def models() -> None:
    """Models that can be asked for.

    \b
    shunter models list
    """


@models.command("list")
@as_json_option
def list_models(*, as_json: bool) -> None:
    """List the registered model versions; jobs run the highest unless they name one.

    \b
    shunter models list
    """
    present, registered = _look()
    engines = {(s["model"], s["version"]): s["state"] for w in present if w["live"] for s in w["serves"]}
    versions = [{**model, "engine": engines.get((model["name"], model["version"]))} for model in registered]
    if as_json:
        print_json(versions)
        return
    print_table(
        ["MODEL", "VERSION", "ENGINE", "MAX ROWS"],
        [(v["name"], v["version"], v["engine"] or "no worker", v["batching"]["max_rows"]) for v in versions],
    )


def worker_document(worker: Worker) -> Document:
    """A worker as the API tells of it."""
    about = ("name", "host", "pid", "pool", "device", "memory_bytes", "memory_budget_bytes", "software")
    facts = (*about, "clock_ahead_s", "state", "live", "silent_s", "started_at", "stats")
    return {
        "id": worker.incarnation,
        **{fact: getattr(worker, fact) for fact in facts},
        "serves": [asdict(serving) for serving in worker.serves],
    }


def worker_row(worker: Document) -> tuple[object, ...]:
    """One line of the table of workers."""
    batches = sum(stats["batches"] for stats in worker["stats"].values())
    rows = sum(stats["rows"] for stats in worker["stats"].values())
    state = worker["state"] if worker["live"] else f"silent for {worker['silent_s']:.0f} s"
    serves = ", ".join(_serving(serving) for serving in worker["serves"])
    mean = f"{rows / batches:.1f}" if batches else None
    beat = f"{worker['silent_s']:.1f} s ago"
    about = (worker["name"], worker["pool"], state, beat, worker["device"], _memory(worker))
    return (*about, serves, _at_work(worker), batches, rows, mean)


def _serving(serving: Document) -> str:
    loads = f" ({serving['loads']} loads)" if serving["loads"] > 1 else ""
    return f"{serving['model']}:{serving['version']} {serving['state']}{loads}"


def _at_work(worker: Document) -> str | None:
    """The batches that are in its engines' hands."""
    works = [(s, s["at_work"]) for s in worker["serves"] if s.get("at_work")]
    told = (f"{s['model']}: {w['stage']}, {w['rows']} rows for {w['for_s']:.1f} s" for s, w in works)
    return ", ".join(told) or None


def _memory(worker: Document) -> str | None:
    """What its engines take, and of how much."""
    if worker["memory_bytes"] is None:
        return None
    budget = worker["memory_budget_bytes"]
    used = format_size(worker["memory_bytes"])
    return used if budget is None else f"{used} of {format_size(budget)}"


def _look() -> tuple[Sequence[Document], Sequence[Document]]:
    """The workers and the model versions there are."""
    settings = Settings.from_environment()
    if settings.api_url and not settings.database_url:
        return _look_through_api(settings)
    return _look_into_database(settings)


def _look_through_api(settings: Settings) -> tuple[Sequence[Document], Sequence[Document]]:
    from shunter.producers.http import HttpBackend

    with closing(HttpBackend(settings.api_url, api_key=settings.api_key)) as api:
        present, registered = api.request("GET", "/v1/workers"), api.request("GET", "/v1/models")
    versions = [{"name": m["name"], **version} for m in registered["models"] for version in m["versions"]]
    return present["workers"], versions


def _look_into_database(settings: Settings) -> tuple[Sequence[Document], Sequence[Document]]:
    from shunter.storage.database import Database
    from shunter.storage.model_registry import ModelRegistry
    from shunter.storage.worker_registry import WorkerRegistry

    with closing(Database(settings.require("database_url").database_url, pool_size=1)) as database:
        present, registered = WorkerRegistry(database).present(), ModelRegistry(database).list()
    return [worker_document(worker) for worker in present], [_model_document(model) for model in registered]


def _model_document(model: RegisteredModel) -> Document:
    config = model.config.to_document()
    facts = {"name": model.name, "version": model.version, "digest": model.digest}
    # Not its [params]: they may hold what only the model's author should see.
    return {**facts, "batching": config["batching"], "signature": config["signature"]}
