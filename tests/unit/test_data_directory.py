"""The directory of a local fleet: what other shells may learn from it, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.data_directory import RECORD_FILE, DataDirectory, Record
from shunter.storage.errors import SettingsError

RECORD = Record(
    environment={"SHUNTER_REDIS_URL": "redis://:secret@127.0.0.1:1/0"},
    embedded=("redis_url",),
    ports={"redis_url": 1},
    ready=True,
)


def test_a_record_is_read_as_it_was_written_and_only_by_its_owner(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.write(RECORD)
    assert directory.read() == RECORD
    assert (tmp_path / RECORD_FILE).stat().st_mode & 0o777 == 0o600


def test_a_directory_without_a_record_has_an_empty_one(tmp_path: Path) -> None:
    assert DataDirectory(tmp_path).read() == Record()


def test_the_settings_can_be_had_while_the_fleet_is_ready(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    lock = directory.hold()
    directory.write(RECORD)
    assert directory.running() == RECORD.environment
    lock.release()
    with pytest.raises(SettingsError, match="no `shunter up` is running"):
        directory.running()


def test_the_record_of_an_earlier_run_is_not_taken_for_that_of_one_that_starts(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    lock = directory.hold()
    with pytest.raises(SettingsError, match="still starting"):
        directory.running()
    lock.release()


def test_a_directory_has_one_holder(tmp_path: Path) -> None:
    lock = DataDirectory(tmp_path).hold()
    with pytest.raises(SettingsError, match="in use by process"):
        DataDirectory(tmp_path).hold()
    lock.release()
