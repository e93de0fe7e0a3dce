"""Ceilings that engines have run into, kept so that no other engine has to."""

from __future__ import annotations

from shunter.storage.ceiling import Ceiling, RaisedCeiling
from shunter.storage.database import Database

# Of two engines that learn at the same time, the one that fits less is right.
RECORD = """
INSERT INTO memory_ceilings (model, version, device, bucket, rows, tokens)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (model, version, device, bucket) DO UPDATE
SET rows = EXCLUDED.rows, tokens = EXCLUDED.tokens, recorded_at = now()
WHERE EXCLUDED.rows < memory_ceilings.rows
"""

# What `RaisedCeiling.disproves`; a lower ceiling that another engine has found meanwhile stays, and holds.
DISPROVED = """
DELETE FROM memory_ceilings
WHERE model = %(model)s AND version = %(version)s AND device = %(device)s
  AND CASE WHEN %(tokens)s > 0 THEN tokens >= %(was_tokens)s AND tokens < %(tokens)s
           ELSE bucket = %(bucket)s AND rows = %(was_rows)s END
"""

KEEP = """
INSERT INTO memory_ceilings (model, version, device, bucket, rows, tokens)
VALUES (%(model)s, %(version)s, %(device)s, %(bucket)s, %(rows)s, %(tokens)s)
ON CONFLICT (model, version, device, bucket) DO NOTHING
"""

ALL = "SELECT model, version, device, bucket, rows, tokens FROM memory_ceilings"


class MemoryCeilings:
    """The table of ceilings."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, model: str, version: int, ceiling: Ceiling) -> None:
        """Keep a ceiling, unless a lower one is known."""
        with self._database.transaction() as cursor:
            cursor.execute(RECORD, (model, version, *ceiling))

    def raise_up(self, model: str, version: int, raised: RaisedCeiling) -> None:
        """Put a ceiling in the place of those that a larger batch has disproved; safe to repeat."""
        values = {
            "model": model,
            "version": version,
            **raised.now._asdict(),
            "was_rows": raised.was.rows,
            "was_tokens": raised.was.tokens,
        }
        with self._database.transaction() as cursor:
            cursor.execute(DISPROVED, values)
            cursor.execute(KEEP, values)

    def all(self) -> dict[tuple[str, int], tuple[Ceiling, ...]]:
        """Every ceiling, by model and version."""
        with self._database.transaction() as cursor:
            cursor.execute(ALL)
            rows = cursor.fetchall()
        found: dict[tuple[str, int], tuple[Ceiling, ...]] = {}
        for model, version, *ceiling in rows:
            key = (model, version)
            found[key] = (*found.get(key, ()), Ceiling(*ceiling))
        return found
