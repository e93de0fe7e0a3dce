"""A text file from some byte of its text on, decompressed if its name says that it is compressed."""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa

from shunter.storage.scoring.formats import compression_of
from shunter.storage.scoring.parquet import UnreadableInput
from shunter.storage.scoring.sources import Source
from shunter.storage.scoring.text import Readable

MAX_EXPANSION = 250
BOMB_BYTES = 64 << 20
"""A compressed file may grow by so much in proportion; a small one to so many bytes in any case."""

SKIP_BYTES = 1 << 20


def text_stream(file: BinaryIO, source: Source, *, start: int) -> Readable:
    """The text from byte `start` on; UnreadableInput if it is no such file, or grows beyond measure."""
    compression = compression_of(source.url)
    if compression is None:
        file.seek(start)
        return file
    stream = _Decompressed(file, source, compression)
    while start > 0 and (skipped := stream.read(min(start, SKIP_BYTES))):
        start -= len(skipped)
    return stream


class _Decompressed:
    def __init__(self, file: BinaryIO, source: Source, compression: str) -> None:
        self._source = source
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), compression)
        self._most = max(BOMB_BYTES, source.size * MAX_EXPANSION)
        self._seen = 0

    def read(self, size: int, /) -> bytes:
        try:
            data: bytes = self._stream.read(size)
        except (OSError, pa.ArrowException) as error:
            raise UnreadableInput(
                f"{self._source.url} cannot be decompressed: {error}", field="input"
            ) from error
        self._seen += len(data)
        if self._seen > self._most:
            raise UnreadableInput(
                f"{self._source.url} grows from {self._source.size} to over {self._most} bytes: it is refused"
            )
        return data
