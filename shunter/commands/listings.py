"""Commands that list what there is: workers and models."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from shunter.commands.output import as_json_option, print_json, print_table

if TYPE_CHECKING:
    from shunter.storage.database import Database
    from shunter.storage.worker_registry import Worker


@click.command()
@as_json_option
def workers(*, as_json: bool) -> None:
    """List the workers, what they serve, and how their batches were.

    \b
    shunter workers
    """
    from shunter.storage.worker_registry import WorkerRegistry

    with closing(_database()) as database:
        present = WorkerRegistry(database).present()
    if as_json:
        print_json([_worker_document(worker) for worker in present])
        return
    print_table(
        ["WORKER", "STATE", "DEVICE", "SERVES", "BATCHES", "ROWS", "ROWS/BATCH"],
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
    from shunter.storage.model_registry import ModelRegistry
    from shunter.storage.worker_registry import WorkerRegistry

    with closing(_database()) as database:
        registered, present = ModelRegistry(database).list(), WorkerRegistry(database).present()
    served = {(s.model, s.version): s.state for worker in present if worker.live for s in worker.serves}
    documents = [
        {
            "name": model.name,
            "version": model.version,
            "digest": model.digest,
            "served": served.get((model.name, model.version)),
            **model.config.to_document(),
        }
        for model in registered
    ]
    if as_json:
        print_json(documents)
        return
    print_table(
        ["MODEL", "VERSION", "ENGINE", "MAX ROWS"],
        [
            (
                model.name,
                model.version,
                served.get((model.name, model.version), "no worker"),
                model.config.batching.max_rows,
            )
            for model in registered
        ],
    )


def _database() -> Database:
    from shunter.storage.database import Database
    from shunter.storage.settings import Settings

    return Database(Settings.from_environment().require("database_url").database_url, pool_size=1)


def _worker_document(worker: Worker) -> dict[str, object]:
    return {
        "name": worker.name,
        "state": _state(worker),
        "device": worker.device,
        "host": worker.host,
        "pid": worker.pid,
        "started_at": worker.started_at,
        "silent_s": worker.silent_s,
        "serves": worker.serves,
        "stats": worker.stats,
    }


def worker_row(worker: Worker) -> tuple[object, ...]:
    """One line of the table of workers."""
    batches = sum(stats["batches"] for stats in worker.stats.values())
    rows = sum(stats["rows"] for stats in worker.stats.values())
    serves = ", ".join(f"{s.model}:{s.version} {s.state}" for s in worker.serves)
    mean = f"{rows / batches:.1f}" if batches else None
    return (worker.name, _state(worker), worker.device, serves, batches, rows, mean)


def _state(worker: Worker) -> str:
    return worker.state if worker.live else f"silent for {worker.silent_s:.0f} s"
