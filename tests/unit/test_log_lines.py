"""Log lines and stored messages are bounded, and hold no password that somebody quoted."""

from __future__ import annotations

import logging
import sys

import pytest

from shunter.storage.errors import MAX_MESSAGE_CHARS, hide_secrets, shorten
from shunter.storage.ids import new_id
from shunter.storage.log_lines import MAX_LOG_CHARS, BoundedFormatter
from shunter.storage.outcome import RowFailure, failed


@pytest.mark.parametrize(
    "text",
    [
        "could not connect to postgresql://user:{}@host/db: refused",
        "redis://:{}@host:6379/0 does not answer",
        "dsn is host=h user=u password={} dbname=d",
        "dsn is host=h user=u password='{}' dbname=d",
        "GET https://host/x?sslpassword={}&more=1",
        "aws_secret_access_key = {}",
        "PASSWORD={}",
    ],
)
@pytest.mark.parametrize("password", ["hunter2", "p@ss:w0rd", "x" * 5000])
def test_a_password_is_hidden_wherever_it_stands(text: str, password: str) -> None:
    told = shorten(text.format(password))
    assert "***" in told
    assert password[:7] not in told
    assert "w0rd" not in told


@pytest.mark.parametrize(
    "text",
    [
        "http://host:8000/v1/jobs does not answer",
        "mail me@example.org about s3://bucket/key",
        "expected token 5, password too short",
        "postgresql://user@host:5432/db",
        "ratio 1:2 @ 30",
    ],
)
def test_what_holds_no_password_stays_as_it_is(text: str) -> None:
    assert hide_secrets(text) == text


def test_a_job_s_error_and_a_row_s_are_cleaned_before_they_are_stored() -> None:
    quoted = "OperationalError: postgresql://app:hunter2@db/x"
    assert "hunter2" not in str(failed(new_id(), 1, code="x", message=quoted, rows=1).error)
    assert "hunter2" not in str(RowFailure(0, "operational_error", quoted).document())


def test_a_line_is_cut_with_its_traceback() -> None:
    try:
        raise ValueError("x" * 100_000)
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "f", 1, "%s", ("y" * 100_000,), sys.exc_info())
    line = BoundedFormatter().format(record)
    assert len(line) == MAX_LOG_CHARS
    assert line.endswith("…")


def test_a_line_hides_passwords() -> None:
    record = logging.LogRecord("n", logging.ERROR, "f", 1, "at %s", ("redis://:hunter2@h",), None)
    assert BoundedFormatter().format(record).endswith("ERROR n: at redis://:***@h")


def test_a_message_is_cut() -> None:
    assert len(shorten("x" * 100_000)) == MAX_MESSAGE_CHARS
