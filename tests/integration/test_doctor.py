"""The doctor at real services, well and unwell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
import redis

from shunter.cli import run
from shunter.migrations import migrate
from shunter.storage.database import Database
from shunter.storage.settings import Settings, redact
from shunter.storage.worker_registry import WorkerRegistry
from tests.fake_worker import FakeWorker, register_models
from tests.stored_jobs import age_workers, new_worker

Told = list[str]


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = Settings(
        database_url=database_url, redis_url=redis_url, object_store=(tmp_path / "objects").as_uri()
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    return settings


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, Told]:
    """Its exit code, and the lines that are not ok."""
    code = run(["doctor"])
    return code, [line for line in capsys.readouterr().out.splitlines() if not line.startswith("ok ")]


def execute(settings: Settings, statement: str) -> None:
    with closing(psycopg2.connect(settings.database_url)) as connection, connection:
        connection.cursor().execute(f"SELECT 1; {statement}")


@pytest.fixture
def asker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The settings of the owner, while the doctor asks as somebody who has no rights."""
    execute(settings, "CREATE ROLE asker LOGIN")
    parts = urlsplit(settings.database_url)
    place = parts.netloc.rpartition("@")[2]
    monkeypatch.setenv("SHUNTER_DATABASE_URL", urlunsplit(parts._replace(netloc=f"asker@{place}")))
    yield settings
    execute(settings, "DROP OWNED BY asker; DROP ROLE asker")


def test_a_fleet_that_works_is_well(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    register_models(settings, "echo", "negate")
    with FakeWorker(settings):
        assert run(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"]
    # The only warning is of a directory as the object store of a worker that claims another host.
    assert [finding["check"] for finding in told["findings"] if finding["level"] != "ok"] == ["object store"]


def test_nothing_of_an_examination_stays_behind(
    settings: Settings, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["doctor"])
    assert [path for path in (tmp_path / "objects").rglob("*") if path.is_file()] == []
    with redis.Redis.from_url(redis_url) as client:
        assert client.pttl("shunter.doctor") <= 1000


def test_a_database_without_tables_is_told_to_be_migrated(
    settings: Settings,
    empty_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SHUNTER_DATABASE_URL", empty_database_url)
    assert "FAIL  schema: the database has no tables of Shunter" in doctor(capsys)[1][0]
    migrate(empty_database_url, "0004")
    assert "FAIL  schema: it is at migration 0004, and this version needs" in doctor(capsys)[1][0]


def test_a_database_that_lets_nobody_write_is_read_only(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg2.connect(settings.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        (name,) = cursor.fetchone() or ("",)
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    connection.close()
    code, told = doctor(capsys)
    assert code == 1
    assert told[0].startswith("FAIL  postgres: it is read-only")


def test_services_that_do_not_answer_are_named_and_the_others_looked_at(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHUNTER_REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    monkeypatch.delenv("SHUNTER_OBJECT_STORE")
    code, told = doctor(capsys)
    assert code == 1
    assert told[0].startswith("FAIL  redis: Redis at redis://:***@127.0.0.1:1/0 does not answer")
    assert told[1].startswith("FAIL  object store: SHUNTER_OBJECT_STORE not set")
    monkeypatch.setenv("SHUNTER_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    assert doctor(capsys)[1][0].startswith("FAIL  postgres: Postgres at postgresql://127.0.0.1:1/none")


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.1:abc", "redis://:sec/ret@127.0.0.1:1/0", "redis://127.0.0.1:1/x", "redis://a..b"],
)
def test_a_redis_url_that_cannot_be_read_is_told_with_how_to_write_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("SHUNTER_REDIS_URL", url)
    code, (told, *_) = doctor(capsys)
    assert code == 1
    assert told.startswith(f"FAIL  redis: Redis at {redact(url)} cannot be asked: write redis://")
    assert "'sec'" not in told


@pytest.mark.parametrize(
    ("granted", "check"),
    [("", "postgres"), ("GRANT SELECT ON alembic_version TO asker", "workers")],
)
def test_tables_that_may_not_be_read_are_told_of(
    asker: Settings, capsys: pytest.CaptureFixture[str], granted: str, check: str
) -> None:
    execute(asker, granted)
    code, told = doctor(capsys)
    assert code == 1
    assert told[0].startswith(f"FAIL  {check}: Postgres refuses to tell: permission denied for table ")


def test_a_worker_given_up_for_its_silence_is_named(
    settings: Settings, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = WorkerRegistry(database)
    registry.register(worker := new_worker(name="gpu0@here"))
    age_workers(database, 60.0)
    registry.end([worker.incarnation])
    assert any("gpu0@here (pid 1) has been silent for 60 s" in line for line in doctor(capsys)[1])
    registry.register(leaver := new_worker(name="gpu1@here"))
    registry.end([leaver.incarnation])
    assert not any("gpu1@here" in line for line in doctor(capsys)[1])


def test_a_program_on_an_older_schema_says_what_to_run(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    # To before workers told of their software, which the command asks for.
    migrate(settings.database_url, "-2")
    assert run(["workers"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: schema_mismatch: ")
    assert "run `shunter migrate`" in told
