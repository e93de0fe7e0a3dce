"""What an operator sets, and how mistakes are told."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from shunter.storage.errors import SettingsError
from shunter.storage.settings import Settings, fetch_prefixes, redact

GOOD = {
    "SHUNTER_DATABASE_URL": "postgresql://me:secret@db:5432/shunter",
    "SHUNTER_REDIS_URL": "redis://cache:6379/0",
    "SHUNTER_OBJECT_STORE": "s3://bucket/prefix",
    "SHUNTER_MODELS": "~/models",
    "SHUNTER_DATA": "/data",
    "SHUNTER_API_URL": "https://shunter.example.org",
    "SHUNTER_API_KEY": "key",
    "SHUNTER_KEEP_DAYS": "3",
    "SHUNTER_KEEP_FAILED_DAYS": "0.5",
}


def test_settings_come_from_the_environment_and_go_back_into_it() -> None:
    settings = Settings.from_environment({**GOOD, "PATH": "/bin", "MY_SHUNTER_X": "1"})
    assert settings.database_url == GOOD["SHUNTER_DATABASE_URL"]
    assert settings.api_key == "key"
    assert settings.models_directory == Path.home() / "models"
    assert settings.environment() == GOOD


def test_nothing_set_is_fine_until_it_is_needed() -> None:
    settings = Settings.from_environment({"SHUNTER_DATA": ""})
    assert settings == Settings()
    assert settings.environment() == {}
    assert settings.models_directory is None


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SHUNTER_DATABASE", "SHUNTER_DATABASE_URL"),
        ("SHUNTER_REDIS_URI", "SHUNTER_REDIS_URL"),
        ("SHUNTER_MODEL", "SHUNTER_MODELS"),
    ],
)
def test_an_unknown_variable_warns_with_the_nearest_name(name: str, nearest: str) -> None:
    with pytest.warns(UserWarning, match=rf"{name} is no setting .* did you mean {nearest}\?"):
        assert Settings.from_environment({name: "x"}) == Settings()


def test_a_variable_like_no_other_warns_without_a_guess() -> None:
    with pytest.warns(UserWarning, match="is ignored$"):
        Settings.from_environment({"SHUNTER_QQQQQQQQ_XYZW": "x"})


def test_variables_of_others_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Settings.from_environment({"SHUNTERS": "1", "shunter_data": "x", "REDIS_URL": "x"})


@pytest.mark.parametrize(
    ("field", "url"),
    [
        ("database_url", "mysql://me:secret@db/shunter"),
        ("database_url", "db:5432/shunter"),
        ("database_url", "postgresql//me:secret@db"),
        ("database_url", "postgresql://[me:secret@db"),
        ("redis_url", "amqp://me:secret@mq"),
        ("object_store", "/var/objects"),
        ("object_store", "http://bucket"),
        ("api_url", "localhost:8000"),
    ],
)
def test_a_url_of_another_scheme_is_refused_by_name(field: str, url: str) -> None:
    with pytest.raises(SettingsError, match=f"SHUNTER_{field.upper()}.*scheme must be one of") as refusal:
        Settings(**{field: url})
    assert refusal.value.field == f"SHUNTER_{field.upper()}"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_every_usual_spelling_of_postgres_is_taken(scheme: str) -> None:
    assert Settings(database_url=f"{scheme}://db/shunter").database_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@db:5432/shunter", "postgresql://me:***@db:5432/shunter"),
        ("postgresql://db:5432/shunter", "postgresql://db:5432/shunter"),
        ("postgresql://me@db/shunter", "postgresql://me@db/shunter"),
        ("postgresql://me@corp:secret@db/x", "postgresql://me@corp:***@db/x"),
        ("redis://:secret@cache:6379/0", "redis://:***@cache:6379/0"),
        ("postgresql://me:sec@ret@db/x", "postgresql://me:***@db/x"),
        ("postgresql://me:sec/secret@db/x", "postgresql://me:***@db/x"),
        ("postgresql://me:sec#secret@db/x", "postgresql://me:***@db/x"),
        ("postgresql://me@db/x?password=secret&sslmode=on", "postgresql://me@db/x?password=***&sslmode=on"),
        ("sentinel://:secret@a:1;sentinel://:secret@b:2/0", "sentinel://:***@a:1;sentinel://:***@b:2/0"),
        ("postgresql://[::1]:5432/shunter", "postgresql://[::1]:5432/shunter"),
        ("not a url", "not a url"),
        ("", ""),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize("url", ["mysql://me:secret@db", "postgresql//me:x@y", "http://[me:secret@db"])
def test_a_refusal_does_not_show_the_password(url: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings(database_url=url)
    assert "secret" not in refusal.value.message


def test_what_is_required_is_returned_when_it_is_set() -> None:
    settings = Settings(redis_url="redis://cache", data="/data")
    assert settings.require("redis_url", "data") is settings
    assert settings.require() is settings


def test_missing_variables_are_all_named_with_a_remedy() -> None:
    with pytest.raises(
        SettingsError, match="SHUNTER_DATABASE_URL and SHUNTER_OBJECT_STORE not set: run `shunter up`"
    ) as refusal:
        Settings(redis_url="redis://cache").require("database_url", "redis_url", "object_store")
    assert refusal.value.field == "SHUNTER_DATABASE_URL"


def test_what_has_ended_is_kept_for_days() -> None:
    assert (Settings().keep_s, Settings().keep_failed_s) == (7 * 86_400, 30 * 86_400)
    settings = Settings.from_environment(GOOD)
    assert (settings.keep_s, settings.keep_failed_s) == (3 * 86_400, 43_200)


@pytest.mark.parametrize("days", ["0", "-1", "seven", "nan", "1e3", "40000", "7 "])
@pytest.mark.parametrize("name", ["SHUNTER_KEEP_DAYS", "SHUNTER_KEEP_FAILED_DAYS"])
def test_days_that_make_no_sense_are_refused(name: str, days: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is .*number of days"):
        Settings.from_environment({name: days})


def test_rows_may_refer_to_the_stores_own_bucket_unless_prefixes_are_named() -> None:
    assert fetch_prefixes("s3://bucket/shunter", {}) == ("s3://bucket",)
    assert fetch_prefixes("file:///data/objects", {}) == ("file:///data/objects",)
    named = {"SHUNTER_FETCH_FROM": "s3://images/in, file:///data,"}
    assert fetch_prefixes("s3://bucket", named) == ("s3://images/in", "file:///data")
    with pytest.raises(SettingsError, match="SHUNTER_FETCH_FROM is 'http://x'"):
        Settings(fetch_from="s3://images,http://x")
