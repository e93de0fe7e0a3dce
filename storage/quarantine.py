"""Messages that could not be understood, kept with their bytes and the reason."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import psycopg2

from shunter.storage.database import Cursor, Database, fetch_all
from shunter.storage.envelope import queue_of
from shunter.storage.errors import NotFound, shorten

MAX_RAW_BYTES = 16 * 2**20
"""More than this of a message is not kept, and it cannot be retried."""

COLUMNS = """id, list_key, reason, created_at, extract(epoch FROM now() - created_at)::float8 AS age_s,
    length(raw) AS size"""


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
    age_s: float
    size: int
    raw: bytes
    """Its bytes; none in a list."""

    @property
    def queue(self) -> str:
        """The Celery queue it came on."""
        return queue_of(self.list_key)

    @property
    def whole(self) -> bool:
        """Whether every byte of it was kept."""
        return self.size < MAX_RAW_BYTES


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
        """The newest first, without their bytes."""
        with self._database.transaction() as cursor:
            cursor.execute(
                f"SELECT {COLUMNS}, ''::bytea AS raw FROM quarantine ORDER BY created_at DESC, id LIMIT %s",
                (limit,),
            )
            return [_quarantined(row) for row in fetch_all(cursor)]

    def ids(self) -> Sequence[UUID]:
        """Every entry, the oldest first."""
        with self._database.transaction() as cursor:
            cursor.execute("SELECT id FROM quarantine ORDER BY created_at, id")
            return [row[0] for row in cursor.fetchall()]

    def get(self, id: UUID) -> Quarantined:
        """One entry; NotFound if there is none."""
        with self._database.transaction() as cursor:
            cursor.execute(f"SELECT {COLUMNS}, raw FROM quarantine WHERE id = %s", (id,))
            return _only(cursor, id)

    @contextmanager
    def take(self, id: UUID) -> Iterator[Quarantined]:
        """One entry, forgotten when the block ends and kept when it raises; NotFound if there is none.

        A worker that quarantines the same message meanwhile waits, so that the new entry stays.
        """
        with self._database.transaction() as cursor:
            cursor.execute(f"DELETE FROM quarantine WHERE id = %s RETURNING {COLUMNS}, raw", (id,))
            yield _only(cursor, id)


def _only(cursor: Cursor, id: UUID) -> Quarantined:
    for row in fetch_all(cursor):
        return _quarantined(row)
    raise NotFound(f"nothing in quarantine has the id {id}: `shunter quarantine list` shows what there is")


def _quarantined(row: dict[str, Any]) -> Quarantined:
    return Quarantined(**{**row, "raw": bytes(row["raw"])})
