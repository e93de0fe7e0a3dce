"""Commands that are one process of a fleet, as an operator starts them: worker, API, Flower, migrations."""

from __future__ import annotations

import importlib
import logging
import os
import sys

import click

from shunter.storage.errors import SettingsError
from shunter.storage.log_lines import log_to
from shunter.storage.settings import Settings

host_option = click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 is every one."
)
log_level_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What to log to stderr.",
)


@click.command()
@click.option("--pool", default="default", show_default=True, help="Workers of the same models and devices.")
@click.option("--name", default="", help="What Flower calls it.  [default: cpu or gpu0, after its pool]")
@click.option("--models", metavar="A,B", default="", help="The models to serve.  [default: all]")
@click.option("--device", default="cpu", show_default=True, help="Where its models run: cpu or cuda:0.")
@click.option(
    "--memory",
    metavar="20GiB",
    help="What its engines may take together.  [default: 90 % of a GPU, no limit on a CPU]",
)
@log_level_option
def worker(*, pool: str, name: str, models: str, device: str, memory: str | None, log_level: str) -> None:
    """Serve the models in SHUNTER_MODELS until SIGTERM or Ctrl-C, which drain it first.

    Start one worker for each device. Models that do not fit into --memory together take turns.

    \b
    shunter worker --pool text --models digits,sentiment --device cuda:0 --memory 20GiB
    """
    _need("celery", extra="worker")
    from shunter.storage.sizes import parse_size
    from shunter.workers.worker import WorkerOptions, run_worker

    _log(log_level)
    options = WorkerOptions(
        name=name,
        pool=pool,
        models=tuple(word.strip() for word in models.split(",") if word.strip()),
        device=device,
        memory=None if memory is None else parse_size(memory),
    )
    code = run_worker(Settings.from_environment(), options)
    raise click.exceptions.Exit(code)


@click.command()
@host_option
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@log_level_option
def api(*, host: str, port: int, log_level: str) -> None:
    """Serve the HTTP API; its documentation is at /docs.

    \b
    shunter api --host 0.0.0.0 --port 8000
    """
    _need("fastapi", extra="api")
    from shunter.producers.api import serve

    _log(log_level)
    serve(Settings.from_environment(), host=host, port=port)


@click.command()
@host_option
@click.option("--port", type=click.IntRange(1, 65535), default=5555, show_default=True)
def flower(*, host: str, port: int) -> None:
    """Watch the fleet in Flower.

    \b
    shunter flower --port 5555
    """
    _need("flower", extra="flower")
    from shunter.workers.celery_app import flower_arguments

    settings = Settings.from_environment().require("redis_url")
    arguments, environment = flower_arguments(settings.redis_url, port=port, address=host)
    # -P: a package of the current directory must not take the place of one of Flower's.
    os.execve(sys.executable, [sys.executable, "-P", *arguments], environment)


@click.command()
def migrate() -> None:
    """Bring the database at SHUNTER_DATABASE_URL to this version's schema; safe to repeat.

    \b
    SHUNTER_DATABASE_URL=postgresql://user@host/shunter shunter migrate
    """
    from shunter.migrations import migrate as apply
    from shunter.storage.settings import redact

    url = Settings.from_environment().require("database_url").database_url
    apply(url)
    click.echo(f"the schema of {redact(url)} is up to date")


def _log(level: str) -> None:
    log_to(logging.StreamHandler(), level.upper())
    logging.captureWarnings(True)


def _need(module: str, *, extra: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SettingsError(f"{module} is not installed here: pip install 'shunter[{extra}]'") from error
