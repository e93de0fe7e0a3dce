"""Messages that could not be understood, kept with their bytes and the reason."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID

import psycopg2

from shunter.storage.database import Database, fetch_all
from shunter.storage.errors import NotFound, shorten

MAX_RAW_BYTES = 16 * 2**20
"""More than this of a message is not kept, and it cannot be retried."""

COLUMNS = "id, list_key, reason, created_at, raw"


@dataclass(frozen=True, slots=True)
class Misfit:
    """A raw message, the list it came on, and why it is no envelope."""

    list_key: str
    raw: bytes
    reason: str

    @property
    def id(self) -> UUID:
        """The same message on the same list is one entry, however often it comes."""
        return uuid.uuid5(uuid.NAMESPACE_OID, self.list_key + sha256(self.raw).hexdigest())


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One entry."""

    id: UUID
    list_key: str
    reason: str
    created_at: datetime
    raw: bytes


class Quarantine:
    """The one reader and writer of the quarantine table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, misfits: Sequence[Misfit]) -> None:
        """Keep messages; one that is there already is kept once."""
        if not misfits:
            return
        with self._database.transaction() as cursor:
            cursor.executemany(
                """INSERT INTO quarantine (id, list_key, raw, reason) VALUES (%s, %s, %s, %s)
                ON CONFLICT (id) DO UPDATE SET reason = excluded.reason""",
                [
                    (m.id, shorten(m.list_key), psycopg2.Binary(m.raw[:MAX_RAW_BYTES]), shorten(m.reason))
                    for m in misfits
                ],
            )

    def list(self, limit: int = 100) -> list[Quarantined]:
        """The newest first."""
        with self._database.transaction() as cursor:
            cursor.execute(f"SELECT {COLUMNS} FROM quarantine ORDER BY created_at DESC LIMIT %s", (limit,))
            return [Quarantined(**{**row, "raw": bytes(row["raw"])}) for row in fetch_all(cursor)]

    def get(self, id: UUID) -> Quarantined:
        """One entry; NotFound if there is none."""
        with self._database.transaction() as cursor:
            cursor.execute(f"SELECT {COLUMNS} FROM quarantine WHERE id = %s", (id,))
            for row in fetch_all(cursor):
                return Quarantined(**{**row, "raw": bytes(row["raw"])})
        raise NotFound(
            f"nothing in quarantine has the id {id}: `shunter quarantine list` shows what there is"
        )

    def remove(self, id: UUID) -> None:
        """Forget one entry: it has been put back on its list."""
        with self._database.transaction() as cursor:
            cursor.execute("DELETE FROM quarantine WHERE id = %s", (id,))
