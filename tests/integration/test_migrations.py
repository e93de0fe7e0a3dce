"""The migrations, and the tables as the code knows them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from shunter.migrations import migrate
from shunter.storage.database import Database, create_engine
from shunter.storage.errors import DatabaseUnavailable
from shunter.storage.job import JobState
from shunter.storage.job_repository import JobRepository
from shunter.storage.tables import metadata
from tests.stored_jobs import insert

TABLES = set(metadata.tables)


@pytest.fixture
def connection(database_url: str) -> Iterator[sqlalchemy.Connection]:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_the_schema_goes_up_down_and_up_again(empty_database_url: str) -> None:
    migrate(empty_database_url)
    assert tables_of(empty_database_url) == TABLES
    store_a_job(empty_database_url)
    migrate(empty_database_url, "base")
    assert tables_of(empty_database_url) == set()
    migrate(empty_database_url)
    assert tables_of(empty_database_url) == TABLES
    store_a_job(empty_database_url)


def test_migrating_again_keeps_everything(database_url: str) -> None:
    store_a_job(database_url)
    migrate(database_url)
    database = Database(database_url)
    assert len(JobRepository(database).find()) == 1
    database.close()


def test_two_processes_migrate_at_once(empty_database_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2)
    both = [spawn.Process(target=_migrate_at, args=(start, empty_database_url)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert tables_of(empty_database_url) == TABLES


def _migrate_at(start: Any, url: str) -> None:
    start.wait(60)
    migrate(url)


def test_the_code_knows_the_tables_as_they_are(connection: sqlalchemy.Connection) -> None:
    context = MigrationContext.configure(
        connection,
        opts={"compare_type": True, "compare_server_default": True, "include_object": _is_no_partition},
    )
    assert compare_metadata(context, metadata) == []


def _is_no_partition(_: Any, name: str | None, kind: str, *__: Any) -> bool:
    return not (kind == "table" and str(name).startswith("jobs_"))


def test_the_code_knows_the_conditions_of_the_indexes(connection: sqlalchemy.Connection) -> None:
    known = {
        index.name: index.dialect_options["postgresql"]["where"] is not None
        for table in metadata.tables.values()
        for index in table.indexes
    }
    inspector = sqlalchemy.inspect(connection)
    built = {
        index["name"]: "postgresql_where" in index.get("dialect_options", {})
        for table in TABLES
        for index in inspector.get_indexes(table)
    }
    assert built == known


def test_the_states_in_the_database_are_those_of_the_code(connection: sqlalchemy.Connection) -> None:
    labels = connection.scalars(sqlalchemy.text("SELECT unnest(enum_range(NULL::job_state))::text"))
    assert list(labels) == [state.value for state in JobState]


def test_a_database_that_does_not_answer_is_said_so() -> None:
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        migrate("postgresql://somebody:secret@127.0.0.1:1/nothing")


def tables_of(url: str) -> set[str]:
    """The tables, without partitions and Alembic's own."""
    engine = create_engine(url)
    names = sqlalchemy.inspect(engine).get_table_names()
    engine.dispose()
    return {name for name in names if not name.startswith(("jobs_", "alembic_"))}


def store_a_job(url: str) -> None:
    database = Database(url)
    insert(JobRepository(database))
    database.close()
