"""References: a row may name an object, `{"$ref": "s3://bucket/key"}`; the engine puts its bytes there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

REF_KEY = "$ref"

MARK = b"$ref"
"""What stands in every block of rows that refers to something."""

_NESTS = frozenset((dict, list))


def reference(url: str) -> dict[str, str]:
    """What stands for an object in a row."""
    return {REF_KEY: url}


def is_reference(value: object) -> bool:
    """Whether a value stands for an object."""
    return type(value) is dict and len(value) == 1 and type(value.get(REF_KEY)) is str


def urls_in(value: Any) -> Iterator[str]:
    """What a row refers to, wherever in it."""
    if type(value) is dict:
        if is_reference(value):
            yield value[REF_KEY]
            return
        value = list(value.values())
    if type(value) is list and not _NESTS.isdisjoint(map(type, value)):
        for inner in value:
            yield from urls_in(inner)


def replaced(value: Any, found: Mapping[str, bytes]) -> Any:
    """A row with the objects in the places of their names."""
    if type(value) is dict:
        if is_reference(value):
            return found[value[REF_KEY]]
        return {key: replaced(inner, found) for key, inner in value.items()}
    if type(value) is list and not _NESTS.isdisjoint(map(type, value)):
        return [replaced(inner, found) for inner in value]
    return value
