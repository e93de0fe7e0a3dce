"""Up to where the rows of a growing input have been scored: a mark in a column whose values rise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Mark:
    """A value of a column as Arrow writes it, and its kind: marks of different kinds have no order."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Watermark:
    """Which rows are scored: those whose value in `column` is greater than `after`, or any value if None.

    `until` is the greatest of these values, and what the next window goes on after.
    """

    column: str
    after: Mark | None
    until: Mark


def mark(document: Mapping[str, Any] | None) -> Mark | None:
    """Read a mark's JSON form, which is its fields."""
    return None if document is None else Mark(**document)


def watermark(document: Mapping[str, Any] | None) -> Watermark | None:
    """Read a watermark's JSON form, which is its fields."""
    if document is None:
        return None
    return Watermark(document["column"], mark(document["after"]), Mark(**document["until"]))
