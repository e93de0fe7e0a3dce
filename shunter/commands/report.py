"""Commands about reports: show what a scoring was like, and keep the profile that it is compared with."""

from __future__ import annotations

import tempfile
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from shunter.commands.output import as_json_option, print_json
from shunter.storage.settings import Settings

WAIT_S = 60.0


@click.command()
@click.argument("id")
@click.option("--open", "open_", is_flag=True, help="Show the page in a browser.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the page to this file."
)
@as_json_option
def report(id: str, *, open_: bool, output: Path | None, as_json: bool) -> None:
    """Say what the scoring ID was like, and whether its columns have drifted.

    \b
    shunter report 0197a3c2-6d1e-7c4f-9b1a-5a0f6de2c1aa
    shunter report 0197a3c2-6d1e-7c4f-9b1a-5a0f6de2c1aa --output report.html --open
    """
    from shunter.producers.client import Client

    with Client() as client:
        scoring = client.scoring(id)
        document = scoring.report(timeout=WAIT_S)
        if output is not None or open_:
            place = output or Path(tempfile.mkdtemp(prefix="shunter-report-")) / f"{scoring.id}.html"
            place.write_text(scoring.report_page())
            click.echo(place, err=as_json)
            if open_:
                webbrowser.open(place.absolute().as_uri())
    if as_json:
        print_json(document)
        return
    for line in _lines(document):
        click.echo(line)


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    scoring, rows, device = document["scoring"], document["rows"], document["device"]
    yield f"scoring  {scoring['id']}"
    yield f"model    {scoring['model']} version {scoring['version']}"
    yield f"rows     {rows['total']}, {rows['succeeded']} succeeded, {rows['failed']} failed"
    yield f"time     {document['seconds']:.1f} s"
    for failure in document["failures"]:
        yield f"failed   {failure['rows']} x {failure['code']}: {failure['example']}"
    if device["busy_s_per_million_rows"] is not None:
        yield f"device   {device['busy_s_per_million_rows']:.1f} s busy per million rows"
    if device["cost_per_million_rows"] is not None:
        yield f"cost     {device['cost_per_million_rows']:.4f} per million rows"
    yield from _drift(document)


def _drift(document: Mapping[str, Any]) -> Iterator[str]:
    against = ", ".join(document["drift"]["against"])
    drifted = document["drift"]["drifted"]
    # Reports of earlier versions do not tell of it.
    if (missing := document["drift"].get("missing")) is not None:
        yield f"drift    not compared with {missing}: that scoring was forgotten, or has no report"
    if drifted is None:
        yield "drift    nothing to compare with yet"
        return
    yield f"drift    {'yes' if drifted else 'no'}, against {against}"
    for column in document["columns"]:
        for reference, distances in column["distances"].items():
            for far in (distance for distance in distances if distance["drifted"]):
                ks = "" if far["ks"] is None else f", KS {far['ks']:.2f} (limit {far['ks_limit']:.2f})"
                yield (
                    f"         {column['side']} {column['name']}, {far['of']} against {reference}: "
                    f"PSI {far['psi']:.2f} (limit {far['psi_limit']:.2f}){ks}"
                )


@click.command("profile")
@click.argument("name")
@click.argument("data", metavar="DATA")
@click.option("--version", type=click.IntRange(min=1), help="The model version.  [default: the newest]")
@click.option("--format", type=click.Choice(["parquet", "jsonl", "csv"]), help="If names do not tell it.")
@as_json_option
def profile_model(name: str, data: str, *, version: int | None, format: str | None, as_json: bool) -> None:
    """Keep what the columns of DATA are like, as the profile of the model NAME.

    DATA is a file, a directory, a glob or an s3:// prefix. Scorings by this version are compared with it,
    column by column: give what the model was trained on, or the output of a scoring with its inputs kept.

    \b
    shunter models profile digits 'train/*.parquet'
    """
    from shunter.producers.scoring.profiling import profile
    from shunter.storage.database import Database

    settings = Settings.from_environment().require("database_url")
    with closing(Database(settings.database_url, pool_size=1)) as database:
        profiled = profile(database, name, data, version=version, format=format)
    if as_json:
        print_json(profiled)
        return
    click.echo(
        f"{profiled.model} version {profiled.version}: {profiled.rows} rows of {', '.join(profiled.columns)}"
    )
