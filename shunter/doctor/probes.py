"""Asks Postgres, Redis and the object store how they are; each write leaves nothing behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

import kombu
import psycopg2
import redis
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from shunter.doctor.facts import PostgresFacts, RedisFacts, Refusal
from shunter.storage.database import Database
from shunter.storage.envelope import QUEUE_PREFIX
from shunter.storage.errors import DatabaseUnavailable, SettingsError, ShunterError
from shunter.storage.object_store import open_object_store
from shunter.storage.settings import Settings, redact

Answer = TypeVar("Answer")

REDIS_TIMEOUT_S = 5.0
BUNCHES_KEY = "shunter.bunches"
PROBE_KEY = "shunter.doctor"
PROBE_LIVES_MS = 1000

# Of more than one page, so that a full disk refuses it; temporary, so that nobody else sees it.
WRITE = "CREATE TEMPORARY TABLE shunter_doctor ON COMMIT DROP AS SELECT repeat('x', 20000) AS x"

LOOK = """
SELECT current_setting('server_version'),
    pg_is_in_recovery() OR current_setting('transaction_read_only')::bool,
    to_regclass('alembic_version') IS NOT NULL, extract(epoch FROM clock_timestamp())::float8
"""


def refused(ask: Callable[[], Answer]) -> Answer | Refusal:
    """What was asked for, or why there is no answer."""
    try:
        return ask()
    except ShunterError as error:
        return Refusal(error.message)
    except psycopg2.Error as error:
        reason = str(error).strip().partition("\n")[0]
        return Refusal(f"Postgres refuses to tell: {reason}: this user needs the rights of the tables' owner")


def probe_postgres(database: Database) -> PostgresFacts:
    """How Postgres is; DatabaseUnavailable."""
    with database.transaction() as cursor:
        cursor.execute("SELECT 1")  # connecting is not a part of what the clocks are compared by
        asked_at = time.time()
        cursor.execute(LOOK)
        version, read_only, migrated, its_time = cursor.fetchone() or ()
        our_time = (asked_at + time.time()) / 2
        if migrated:
            cursor.execute("SELECT max(version_num) FROM alembic_version")
        revision = (cursor.fetchone() or (None,))[0] if migrated else None
    return PostgresFacts(
        version=version.split()[0],
        read_only=read_only,
        revision=revision,
        cannot_write=None if read_only else _write_error(database),
        clock_ahead_s=our_time - its_time,
    )


def _write_error(database: Database) -> str | None:
    try:
        with database.transaction() as cursor:
            cursor.execute(WRITE)
    except (DatabaseUnavailable, psycopg2.Error) as error:
        return str(error.__cause__ or error).strip().partition("\n")[0]
    return None


def probe_redis(settings: Settings) -> RedisFacts | Refusal:
    """How Redis is; SettingsError for a URL that cannot be read."""
    try:
        client = _connect(settings.require("redis_url").redis_url)
        try:
            return _redis_facts(client)
        finally:
            client.close()
    except (redis.RedisError, OperationalError, OSError) as error:
        return Refusal(f"Redis at {redact(settings.redis_url)} does not answer: {error}")


def count_envelopes(settings: Settings) -> int | None:
    """The messages in all lines of models, and the bunches in workers' hands; None if Redis does not tell."""
    try:
        client = _connect(settings.redis_url)
        try:
            keys = client.scan_iter(match=f"{QUEUE_PREFIX}*", _type="list")
            return int(client.zcard(BUNCHES_KEY)) + sum(int(client.llen(key)) for key in keys)
        finally:
            client.close()
    except (redis.RedisError, OperationalError, OSError):
        return None


def _connect(url: str) -> Any:
    # Through kombu, which knows every kind of URL that workers take, Sentinel's included.
    options = {"socket_connect_timeout": REDIS_TIMEOUT_S, "socket_timeout": REDIS_TIMEOUT_S}
    try:
        client = kombu.Connection(url, transport_options=options).channel().client
    except ValueError as error:
        # Its words are not told: of a password that is not percent-encoded they quote a part as the port.
        raise SettingsError(
            f"Redis at {redact(url)} cannot be asked: write redis://:PASSWORD@HOST:PORT/DATABASE, port and "
            "database as numbers, the password percent-encoded",
            field="SHUNTER_REDIS_URL",
        ) from error
    client.set_retry(Retry(NoBackoff(), 0))
    return client


def _redis_facts(client: Any) -> RedisFacts:
    asked_at = time.time()
    seconds, microseconds = client.time()
    our_time = (asked_at + time.time()) / 2
    info = client.info()
    valkey = info.get("valkey_version")
    return RedisFacts(
        name="Valkey" if valkey else "Redis",
        version=valkey or info["redis_version"],
        keeps_log=bool(info.get("aof_enabled")),
        keeps_snapshots=_takes_snapshots(client),
        policy=info.get("maxmemory_policy", "unknown"),
        used_bytes=info["used_memory"],
        max_bytes=info.get("maxmemory", 0),
        cannot_write=_redis_write_error(client),
        clock_ahead_s=our_time - (seconds + microseconds / 1e6),
    )


def _takes_snapshots(client: Any) -> bool:
    try:
        return bool(client.config_get("save").get("save"))
    except redis.ResponseError:
        return True  # a managed Redis, which does not tell, and keeps snapshots by its own means


def _redis_write_error(client: Any) -> str | None:
    try:
        client.set(PROBE_KEY, b"x", px=PROBE_LIVES_MS)
    except redis.ResponseError as error:
        return str(error)
    return None


def probe_object_store(settings: Settings) -> str:
    """Write, read and remove an object; returns the store's place. Raises ShunterError."""
    store = open_object_store(settings.require("object_store").object_store)
    key, data = f"doctor/{uuid4().hex}", b"x" * 4096
    store.put(key, data)
    try:
        store.get(key)
    finally:
        store.delete([key])
    return store.url
