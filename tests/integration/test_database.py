"""Connections that a server has ended are met once, however many there were."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from shunter.storage.database import POOL_SIZE, Database
from shunter.storage.errors import DatabaseUnavailable
from tests.waiting import wait_until

END_THE_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = current_database()
"""

IS_THERE = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is closed because nobody refers to it any more."""
    gc.disable()
    yield
    gc.enable()


def backend(database: Database) -> int:
    with database.statement() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int((cursor.fetchone() or (0,))[0])


def end_the_others(database: Database) -> int:
    """How many there were."""
    with database.statement() as cursor:
        cursor.execute(END_THE_OTHERS)
        return len(cursor.fetchall())


def test_one_broken_connection_is_the_last_that_is_met(database: Database, database_url: str) -> None:
    pooled = Database(database_url)
    with ExitStack() as together:
        for _ in range(POOL_SIZE):
            together.enter_context(pooled.statement()).execute("SELECT 1")
    wait_until(lambda: end_the_others(database) == 0)
    with pytest.raises(DatabaseUnavailable):
        backend(pooled)
    with ExitStack() as together:
        for _ in range(POOL_SIZE):
            together.enter_context(pooled.statement()).execute("SELECT 1")
    pooled.close()


def test_the_connection_that_was_used_last_is_used_again(database_url: str) -> None:
    pooled = Database(database_url)
    with ExitStack() as together:
        for _ in range(POOL_SIZE):
            together.enter_context(pooled.statement()).execute("SELECT 1")
    assert len({backend(pooled) for _ in range(2 * POOL_SIZE)}) == 1
    pooled.close()


def is_there(database: Database, pid: int) -> bool:
    with database.statement() as cursor:
        cursor.execute(IS_THERE, (pid,))
        return bool(cursor.fetchall())


@pytest.mark.usefixtures("uncollected")
def test_a_connection_in_use_while_another_broke_is_closed_when_it_comes_back(
    database: Database, database_url: str
) -> None:
    pooled = Database(database_url)
    with pooled.statement() as used:
        used.execute("SELECT pg_backend_pid()")
        (pid,) = used.fetchone() or (0,)
        with pytest.raises(DatabaseUnavailable), pooled.statement() as broken:
            broken.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    wait_until(lambda: not is_there(database, pid))
    pooled.close()
