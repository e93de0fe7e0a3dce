"""Text files as records: where they begin and end, decided once when planned and again alike when read."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Protocol

from shunter.storage.scoring.formats import CSV

MAX_RECORD_BYTES = 16 << 20
"""A longer row fails by itself, unread."""

BLOCK_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"


class Readable(Protocol):
    """What can be read from its front."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end."""


class Records:
    """Cuts a stream of text into records, keeping the byte at which each begins.

    A record of CSV goes on over line ends while a quote is open, unless it grows beyond MAX_RECORD_BYTES:
    then its lines stand alone, and the first is refused. Empty lines are no records. Records longer than
    MAX_RECORD_BYTES come as None: nobody wants them in memory.
    """

    def __init__(self, file: Readable, format: str, *, start: int = 0, stop: int | None = None) -> None:
        self._file = file
        self._quotes = format == CSV
        self._position = start
        self._left = None if stop is None else stop - start

    @property
    def position(self) -> int:
        """Where the next record begins."""
        return self._position

    def __iter__(self) -> Iterator[bytes | None]:
        for record, size in self._lines():
            self._position += size
            if record is None or record.strip():
                yield record

    def _lines(self) -> Iterator[tuple[bytes | None, int]]:
        """Records with their sizes in bytes, line ends and empty ones included."""
        open_lines: list[bytes] = []
        size = quotes = 0
        for line, length in self._physical_lines():
            if line is None:
                yield from _alone(open_lines)
                yield None, length
                open_lines, size, quotes = [], 0, 0
                continue
            open_lines.append(line)
            size += length
            quotes += line.count(b'"') if self._quotes else 0
            if quotes % 2 == 0:
                yield b"".join(open_lines), size
            elif size <= MAX_RECORD_BYTES:
                continue
            else:
                yield from _alone(open_lines)
            open_lines, size, quotes = [], 0, 0
        yield from _alone(open_lines)

    def _physical_lines(self) -> Iterator[tuple[bytes | None, int]]:
        """Lines with their sizes, line ends included; None in place of one that is too long."""
        rest, skipped = b"", 0
        while block := self._read():
            # Not splitlines: only a line feed ends a row.
            lines = io.BytesIO(rest + block).readlines()
            rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
            for line in lines:
                large = skipped or len(line) > MAX_RECORD_BYTES
                yield (None if large else line), skipped + len(line)
                skipped = 0
            if len(rest) + skipped > MAX_RECORD_BYTES:
                skipped, rest = skipped + len(rest), b""
        if rest or skipped:
            yield (None if skipped else rest), skipped + len(rest)

    def _read(self) -> bytes:
        wanted = BLOCK_BYTES if self._left is None else min(BLOCK_BYTES, self._left)
        block = self._file.read(wanted) if wanted else b""
        if self._left is not None:
            self._left -= len(block)
        return block


def _alone(lines: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """A quote that was never closed: each line stands for itself, so that one bad line spoils no other."""
    for line in lines:
        yield line, len(line)
