"""Commands of a model's author: begin one from a template, and publish a version of it."""

from __future__ import annotations

import shlex
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shunter.commands.check_model import print_report
from shunter.commands.row_files import read_row_file
from shunter.scaffold import TEMPLATE_NAMES, write_scaffold
from shunter.storage.settings import Settings

if TYPE_CHECKING:
    from shunter.storage.model_registry import ModelVersion

models_option = click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    help="The directory of the models.  [default: SHUNTER_MODELS, or ./models]",
)


@click.command("new")
@click.argument("name")
@click.option(
    "--template",
    type=click.Choice(TEMPLATE_NAMES),
    default="torch",
    show_default=True,
    help="What to begin with.",
)
@models_option
def new_model(name: str, *, template: str, models: Path | None) -> None:
    """Write a new model NAME that runs as it is, for you to change.

    \b
    shunter models new digits --template sklearn
    """
    place = models or _default_models()
    model = shlex.quote(str(write_scaffold(name, template, place)))
    click.echo(f"{model} is a model that runs. Next:", err=True)
    click.echo(f"shunter models check {model} --rows {model}/rows.jsonl")
    click.echo(f"shunter up --models {shlex.quote(str(place))}")
    # `up` stays in the foreground, so the third command is for another shell.
    click.echo(f'eval "$(shunter env)" && shunter submit {name} --file {model}/rows.jsonl --wait')


@click.command("publish")
@click.argument("name")
@click.argument("directory", type=click.Path(path_type=Path))
@models_option
@click.option("--version", type=click.IntRange(min=1), help="The version to publish as.  [default: the next]")
@click.option("--check", is_flag=True, help="Check the model first, and publish it only if nothing is wrong.")
@click.option(
    "--rows",
    "row_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --check: the rows to check it with.",
)
def publish_model(
    name: str,
    directory: Path,
    *,
    models: Path | None,
    version: int | None,
    check: bool,
    row_file: Path | None,
) -> None:
    """Publish DIRECTORY as the next version of the model NAME.

    It is copied, and appears complete or not at all. Running workers find it within seconds and serve it;
    with SHUNTER_DATABASE_URL set, it can be asked for at once.

    \b
    shunter models publish digits ./work/digits --check --rows rows.jsonl
    """
    from shunter.storage.model_directories import version_directory
    from shunter.storage.model_publishing import publish

    if row_file and not check:
        raise click.UsageError("--rows is for --check: give both, or neither")
    source = version_directory(directory)
    if check:
        _check(source, row_file)
    published = publish(source, (models or _default_models()).absolute(), name, version=version)
    click.echo(f"{published.name} {published.version} {published.directory}")
    _register(published)


def _default_models() -> Path:
    return Settings.from_environment().models_directory or Path("models")


def _check(source: Path, row_file: Path | None) -> None:
    from shunter.workers.checking.check import check_model

    rows = None if row_file is None else read_row_file(row_file)
    report = check_model(source, rows, say=lambda text: click.echo(f"check: {text}", err=True))
    if report.findings:
        print_report(report)
        raise click.ClickException(f"{source} is not published: mend it, or publish it without --check")


def _register(published: ModelVersion) -> None:
    """Make it known, if there is a database; a worker that has it does so too."""
    from shunter.storage.database import Database
    from shunter.storage.errors import Unavailable
    from shunter.storage.model_registry import ModelRegistry

    settings = Settings.from_environment()
    if not settings.database_url:
        click.echo("not registered without SHUNTER_DATABASE_URL: the first worker that has it will", err=True)
        return
    try:
        with closing(Database(settings.database_url, pool_size=1)) as database:
            ModelRegistry(database).register([published])
    except Unavailable as error:
        click.echo(
            f"published, and not registered yet ({error.message}): the first worker that has it will",
            err=True,
        )
