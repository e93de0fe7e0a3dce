"""Commands for a whole fleet on one machine: start it, reach it from another shell, see it at work."""

from __future__ import annotations

import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shunter.commands.signals import stop_signals_interrupt
from shunter.storage.errors import SettingsError
from shunter.storage.settings import Settings
from shunter.storage.sizes import parse_size

if TYPE_CHECKING:
    from shunter.local_fleet import LocalFleet

MEND_EVERY_S = 1.0

RELOADED = "reloaded-models"
"""In the data directory: what `--reload` has published."""


data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the fleet keeps everything.  [default: SHUNTER_DATA, or ./shunter-data]",
)


@click.command()
@data_option
@click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    help="The directory of the models.  [default: SHUNTER_MODELS, or ./models]",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Of the API; 0 takes a free one.  [default: 8000]"
)
@click.option(
    "--flower-port", type=click.IntRange(0, 65535), help="Of Flower.  [default: 5555, or a free one]"
)
@click.option("--no-flower", is_flag=True, help="Do without Flower.")
@click.option("--workers", type=click.IntRange(min=1), help="How many to start.  [default: one per device]")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where models run; cuda takes every GPU of this machine in turn.",
)
@click.option("--pool", metavar="NAME", help="The pool of the workers.  [default: default]")
@click.option("--memory", metavar="20GiB", help="What each worker's engines may take together.")
@click.option("--reload", is_flag=True, help="Publish a model anew whenever its files change.")
def up(
    *,
    data: Path | None,
    models: Path | None,
    port: int | None,
    flower_port: int | None,
    no_flower: bool,
    workers: int | None,
    device: str,
    pool: str | None,
    memory: str | None,
    reload: bool,
) -> None:
    """Run everything on this machine until Ctrl-C: Postgres, Redis, API, workers and Flower.

    Services named by SHUNTER_DATABASE_URL, SHUNTER_REDIS_URL or SHUNTER_OBJECT_STORE are used instead of
    started. Ctrl-C lets the workers finish what they have begun; a second one stops at once.

    With --reload, models are served from copies in the data directory: each change becomes the next version
    there, and jobs that have begun end on the version that they began on.

    \b
    shunter up --models ./models --data ./shunter-data --reload
    """
    from shunter.local_fleet import DEFAULT_PORT, FleetOptions, LocalFleet

    settings = Settings.from_environment()
    if memory is not None:
        parse_size(memory)
    place, source = _data(data, settings), (models or _models(settings)).expanduser().absolute()
    options = FleetOptions(
        data=place,
        models=place / RELOADED if reload else source,
        port=DEFAULT_PORT if port is None else port,
        flower=not no_flower,
        flower_port=flower_port,
        workers=workers,
        device=device,
        pool=pool,
        memory=memory,
        author_models=source,
        external=settings,
    )
    with stop_signals_interrupt(), ExitStack() as undo:
        fleet = LocalFleet(options, say=_say)
        if reload:
            _reload(fleet, source, undo)
        _run_until_stopped(fleet)


@click.command()
@data_option
def env(*, data: Path | None) -> None:
    """Print the exports that another shell needs to use the fleet of `shunter up`.

    \b
    eval $(shunter env)
    """
    from shunter.data_directory import DataDirectory

    directory = DataDirectory(_data(data, Settings.from_environment()))
    for name, value in directory.running().items():
        click.echo(f"export {name}={shlex.quote(value)}")


@click.command()
@click.option("--keep", is_flag=True, help="Leave the fleet running until Ctrl-C.")
@click.option("--text", is_flag=True, help="Embed real sentences instead; needs shunter[text].")
def demo(*, keep: bool, text: bool) -> None:
    """Train a small model on real images, run all of them through a fleet, and check every result.

    Everything happens in a temporary directory, which is removed at the end.

    \b
    shunter demo --keep
    """
    from shunter.demo import run_demo
    from shunter.demo_text import run_text_demo

    with stop_signals_interrupt():
        passed = (run_text_demo if text else run_demo)(Settings.from_environment(), keep=keep)
    raise click.exceptions.Exit(0 if passed else 1)


def ready_line(fleet: LocalFleet) -> str:
    """What `up` prints when everything can be used."""
    urls = {
        "api": fleet.api_url,
        "docs": f"{fleet.api_url}/docs",
        "flower": fleet.flower_url,
        "data": fleet.directory.path,
    }
    return "  ".join(["ready", *(f"{name}={url}" for name, url in urls.items() if url)])


def _reload(fleet: LocalFleet, source: Path, undo: ExitStack) -> None:
    """Publish what is there before the fleet starts, and what changes as long as it runs."""
    try:
        from shunter.reloading import Reloader
    except ModuleNotFoundError as error:
        raise SettingsError("--reload needs watchfiles: pip install 'shunter[local]'") from error
    reloader = Reloader(source, fleet.models, say=_say, unfinished=fleet.unfinished_versions)
    reloader.publish_changed()
    reloader.start()
    undo.callback(reloader.stop)
    _say(f"watching {source}: each change becomes the next version")


def _run_until_stopped(fleet: LocalFleet) -> None:
    _say("starting in " + str(fleet.directory.path))
    with fleet:
        click.echo(ready_line(fleet))
        _say(f"in another shell: eval $(shunter env --data {shlex.quote(str(fleet.directory.path))})")
        try:
            while True:
                time.sleep(MEND_EVERY_S)
                fleet.mend()
        except KeyboardInterrupt:
            _say("draining the workers (Ctrl-C again stops at once)")
    _say("stopped")


def _data(given: Path | None, settings: Settings) -> Path:
    from shunter.local_fleet import DEFAULT_DATA

    return given or (Path(settings.data) if settings.data else DEFAULT_DATA)


def _models(settings: Settings) -> Path:
    from shunter.local_fleet import DEFAULT_MODELS

    return settings.models_directory or DEFAULT_MODELS


def _say(message: str) -> None:
    click.echo(f"shunter: {message}", err=True)
