"""How commands print: JSON for programs, tables for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

FILE_COLUMNS = 1000

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def print_json(document: object, *, indent: bool = True) -> None:
    """One JSON document; dataclasses and times are understood, arrays and bytes take their JSON form."""
    import orjson

    options = orjson.OPT_INDENT_2 if indent else 0
    click.echo(orjson.dumps(document, default=_json_form, option=options | orjson.OPT_NON_STR_KEYS))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table as wide as it needs to be, or as the terminal is."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    # Nobody wants a table that was cut to 80 columns because it went into a file.
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)
    console.print(table, markup=False)


def _json_form(value: Any) -> object:
    from shunter.storage.payload_json import to_json

    try:
        return to_json(value)
    except ValueError:
        return None  # a NaN or an infinity: JSON has no word for it
