"""How a line of any log looks: bounded, on one line where it can be, and without passwords."""

from __future__ import annotations

import logging

from shunter.storage.errors import shorten

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

MAX_LOG_CHARS = 8_000
"""Of one record, its traceback included: what comes from outside must not fill a disk."""


class BoundedFormatter(logging.Formatter):
    """Formats as usual, then cuts and hides passwords."""

    def __init__(self, format: str = LOG_FORMAT) -> None:
        super().__init__(format)

    def format(self, record: logging.LogRecord) -> str:
        """The record's text."""
        return shorten(super().format(record), MAX_LOG_CHARS)


def log_to(handler: logging.Handler, level: int | str) -> None:
    """Have the whole process log there."""
    handler.setFormatter(BoundedFormatter())
    logging.basicConfig(level=level, handlers=[handler])
