"""Connections to Postgres."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from uuid import UUID

import psycopg2
import psycopg2.extras
import sqlalchemy
from sqlalchemy.engine import URL, Engine, make_url

from shunter.storage.connections import Connection, Connections
from shunter.storage.errors import DatabaseUnavailable, SchemaMismatch, SettingsError
from shunter.storage.ids import uuid_of
from shunter.storage.settings import redact

Cursor = psycopg2.extensions.cursor

CONNECT_TIMEOUT_S = 10
POOL_SIZE = 4
"""Connections kept open per process; a hub uses one each for claims, settles, heartbeat and duties."""

MORE_CONNECTIONS = 16
"""So many more at once; they are closed when they are not used any more."""

OPTIONS = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "shunter", "keepalives_idle": 30}

psycopg2.extras.register_uuid()

_UUID_OID = 2950


def _uuid(text: Any, _cursor: object) -> UUID | None:
    """Bulk statements return thousands of ids, and UUID(text) would take most of their time."""
    return None if text is None else uuid_of(int(text.replace("-", ""), 16))


_UUIDS = psycopg2.extensions.new_type((_UUID_OID,), "UUID", _uuid)

# A server that lets nobody write is a replica, or about to be one: another connection may find the primary.
_OUTAGES = (
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
    psycopg2.errors.ReadOnlySqlTransaction,
)

_OTHER_SCHEMAS = (psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedColumn)


class Database:
    """A pool of connections, safe for threads and after a fork."""

    def __init__(self, url: str, *, pool_size: int = POOL_SIZE) -> None:
        self.url = url
        self._connect, self._kept = _connector(url), pool_size
        self._connections = self._new_connections()
        _survive_fork(self)

    def transaction(self) -> AbstractContextManager[Cursor]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises DatabaseUnavailable when Postgres cannot be reached. If the connection breaks during
        the commit, the outcome is unknown, and the caller must read the rows again.
        """
        return self._cursor(autocommit=False)

    def statement(self) -> AbstractContextManager[Cursor]:
        """A cursor whose every `execute` is a transaction of its own, in one round trip instead of three.

        Raises as `transaction` does; what breaks during the statement may have been committed.
        """
        return self._cursor(autocommit=True)

    @contextmanager
    def _cursor(self, *, autocommit: bool) -> Iterator[Cursor]:
        connections = self._connections
        try:
            connection = connections.take()
        except _OUTAGES as error:
            raise self._outage(error) from error
        try:
            if connection.autocommit is not autocommit:
                connection.autocommit = autocommit
            with connection.cursor() as cursor:
                yield cursor
            if not autocommit:
                connection.commit()
        except _OUTAGES as error:
            if connection.closed:
                # What ended it may have ended all; a connection that is seldom used would tell hours later.
                self._close(connections)
            connection.close()
            raise self._outage(error) from error
        except _OTHER_SCHEMAS as error:
            connection.rollback()
            raise self._mismatch(error) from error
        except BaseException:
            connection.rollback()
            raise
        finally:
            connections.give_back(connection)

    def revision(self) -> str | None:
        """The migration that the schema is at; None for a role that may not read it."""
        try:
            with self.statement() as cursor:
                cursor.execute("SELECT max(version_num) FROM alembic_version")
                found: str | None = (cursor.fetchone() or (None,))[0]
        except psycopg2.errors.InsufficientPrivilege:
            return None
        return found

    def close(self) -> None:
        """Close every idle connection, and those in use when they are used no more."""
        self._close(self._connections)

    def forget(self) -> None:
        """Drop the connections without closing them, which psycopg2 leaves to the parent of a fork."""
        self._connections = self._new_connections()

    def _new_connections(self) -> Connections:
        return Connections(self._connect, kept=self._kept, most=self._kept + MORE_CONNECTIONS)

    def _close(self, connections: Connections) -> None:
        if self._connections is connections:
            self._connections = self._new_connections()
        connections.close()

    def _mismatch(self, error: BaseException) -> SchemaMismatch:
        return SchemaMismatch(
            f"the tables at {redact(self.url)} are not those of this version ({_first_line(error)}): "
            "run `shunter migrate`, with the newest version in use"
        )

    def _outage(self, error: BaseException) -> DatabaseUnavailable:
        read_only = isinstance(error, psycopg2.errors.ReadOnlySqlTransaction)
        what = "is read-only" if read_only else "does not answer"
        return DatabaseUnavailable(f"Postgres at {redact(self.url)} {what}: {cause(self.url, error)}")


def create_engine(url: str) -> Engine:
    """SQLAlchemy's engine for a database URL; nothing is connected yet."""
    return sqlalchemy.create_engine(_parse(url), connect_args=OPTIONS)


def _connector(url: str) -> Callable[[], Connection]:
    """What opens a connection; the URL is read as SQLAlchemy reads it."""
    parsed = _parse(url)
    positional, named = parsed.get_dialect()().create_connect_args(parsed)

    def connect() -> Connection:
        connection: Connection = psycopg2.connect(*positional, **{**named, **OPTIONS})
        psycopg2.extensions.register_type(_UUIDS, connection)
        return connection

    return connect


def _parse(url: str) -> URL:
    try:
        return make_url(url).set(drivername="postgresql+psycopg2")
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise SettingsError(
            f"{redact(url)!r} is no database URL: {cause(url, error)}", field="SHUNTER_DATABASE_URL"
        ) from error


def cause(url: str, error: BaseException) -> str:
    """What the driver says of a URL that does not work, where that cannot be a part of its password."""
    if url.count("@") > 1:
        # The driver takes what follows the first @ for the host, the port or the database, and quotes it.
        return "it holds more than one @, so write those of the user and the password as %40"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _survive_fork(database: Database) -> None:
    reference = weakref.ref(database)

    def in_child() -> None:
        alive = reference()
        if alive is not None:
            alive.forget()

    os.register_at_fork(after_in_child=in_child)


def fetch_all(cursor: Cursor) -> list[dict[str, Any]]:
    """Every row of the last statement, as dicts."""
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
