"""Messages that could not be understood, kept with their bytes and the reason."""

from __future__ import annotations

import psycopg2

from shunter.storage.database import Database
from shunter.storage.errors import shorten
from shunter.storage.ids import new_id

MAX_RAW_BYTES = 2**20
"""More than this of a message is not kept."""


class Quarantine:
    """The one writer of the quarantine table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, list_key: str, raw: bytes, reason: str) -> None:
        """Keep one message."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "INSERT INTO quarantine (id, list_key, raw, reason) VALUES (%s, %s, %s, %s)",
                (new_id(), shorten(list_key), psycopg2.Binary(raw[:MAX_RAW_BYTES]), shorten(reason)),
            )
