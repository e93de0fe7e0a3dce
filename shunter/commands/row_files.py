"""Reads a file of JSON rows: one per line, or one array of them."""

from __future__ import annotations

from pathlib import Path

from shunter.storage.errors import InvalidInput


def read_row_file(path: Path) -> list[object]:
    """The rows of a `.json` file, an array, or of any other, one per line; InvalidInput names the place."""
    from shunter.storage.payload_json import from_json

    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text: give JSON rows, one per line") from error
    if path.suffix == ".json":
        rows = _json(text, str(path))
        if not isinstance(rows, list):
            raise InvalidInput(f"{path} holds a {type(rows).__name__}: give an array of rows")
        return [from_json(row, where=f"{path}[{index}]") for index, row in enumerate(rows)]
    lines = [(f"{path}:{number}", line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    return [from_json(_json(line, where), where=where) for where, line in lines]


def _json(text: str, where: str) -> object:
    import orjson

    try:
        value: object = orjson.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{where} is not JSON ({error}): give one JSON row per line") from error
    return value
