"""Alembic migrations, numbered, and the one way to apply them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError

from shunter.storage import partitions
from shunter.storage.database import cause, create_engine
from shunter.storage.errors import DatabaseUnavailable
from shunter.storage.settings import redact

LOCK = 0x5348554E
"""Advisory lock key ("SHUN"), so that two processes do not migrate at once."""


@cache
def newest_revision() -> str:
    """The last migration of this version."""
    revision = ScriptDirectory(str(Path(__file__).parent)).get_current_head()
    assert revision is not None
    return revision


def migrate(url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`, up or down; safe to run from several processes at once.

    Raises DatabaseUnavailable when Postgres cannot be reached.
    """
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    try:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            config.attributes["connection"] = connection
            step = command.downgrade if revision == "base" or revision.startswith("-") else command.upgrade
            step(config, revision)
            if sqlalchemy.inspect(connection).has_table("jobs"):
                for statement in partitions.statements(datetime.now(UTC)):
                    connection.execute(sqlalchemy.text(statement))
    except OperationalError as error:
        why = cause(url, error.orig or error)
        raise DatabaseUnavailable(f"Postgres at {redact(url)} does not answer: {why}") from error
    finally:
        engine.dispose()
