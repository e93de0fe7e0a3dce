"""The command that checks a model in this process, where its author can debug it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shunter.commands.output import as_json_option, print_json, print_table
from shunter.commands.row_files import read_row_file

if TYPE_CHECKING:
    from shunter.workers.checking.findings import Report

EXIT_FINDINGS = 1


@click.command("check")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--rows",
    "row_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="One JSON row per line, or a .json array of rows.  [default: made from [signature.inputs]]",
)
@click.option("--device", default="cpu", show_default=True, help="Where the model runs: cpu or cuda:0.")
@click.option(
    "--max-rows", type=click.IntRange(min=1), help="The largest batch to time.  [default: model.toml]"
)
@as_json_option
def check_model_command(
    directory: Path, *, row_file: Path | None, device: str, max_rows: int | None, as_json: bool
) -> None:
    """Check the model in DIRECTORY, in this process: a breakpoint() in its code stops there.

    Rows are run alone, as one batch, twice and in another order, and the outputs compared; memory is watched,
    and batches are timed. DIRECTORY is a version, or a model, of which the highest version is taken. The exit
    code is 1 if something is wrong.

    \b
    shunter models check models/digits --rows rows.jsonl
    """
    from bdb import BdbQuit

    from shunter.storage.model_directories import version_directory
    from shunter.workers.checking.check import check_model
    from shunter.workers.devices import read_device

    rows = None if row_file is None else read_row_file(row_file)
    try:
        report = check_model(
            version_directory(directory),
            rows,
            device=read_device(device),
            max_rows=max_rows,
            say=lambda text: click.echo(f"check: {text}", err=True),
        )
    except BdbQuit as error:
        raise click.Abort from error
    print_json(_document(report)) if as_json else print_report(report)
    raise click.exceptions.Exit(EXIT_FINDINGS if report.findings else 0)


def _document(report: Report) -> dict[str, object]:
    timings = [{"rows": rows, "ms": ms, "us_per_row": us} for rows, ms, us in _timings(report)]
    return {**asdict(report), "timings": timings}


def _timings(report: Report) -> list[tuple[int, float, float]]:
    return [(t.rows, t.seconds * 1e3, t.seconds * 1e6 / t.rows) for t in report.timings]


def print_report(report: Report) -> None:
    """The timings, what was noted, and what is wrong; for people."""
    if report.timings:
        print_table(
            ["ROWS", "MS", "US/ROW"], [(r, f"{ms:.2f}", f"{us:.1f}") for r, ms, us in _timings(report)]
        )
        click.echo(f"recommended: [batching] max_rows = {report.recommended_rows}")
    for note in report.notes:
        click.echo(f"note: {note}")
    for finding in report.findings:
        click.echo(f"{finding.code}: {finding.message}")
        if finding.traceback:
            click.echo(finding.traceback.rstrip())
    found = f"{len(report.findings)} findings" if report.findings else "nothing wrong"
    click.echo(
        f"{found} with {report.directory}: {report.rows} rows, loaded in {report.load_s:.1f} s", err=True
    )
