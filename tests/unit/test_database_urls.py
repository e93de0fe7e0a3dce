"""What is told of a database URL that does not work holds no part of its password."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from shunter.migrations import migrate
from shunter.storage.database import Database
from shunter.storage.errors import DatabaseUnavailable, SettingsError, ShunterError


def connect(url: str) -> None:
    with closing(Database(url, pool_size=1)) as database, database.transaction():
        pass


@pytest.mark.parametrize("password", ["aaa@bbb", "aaa@bbb/ccc", "aaa@bbb?ccc", "aaa@bbb:ccc"])
@pytest.mark.parametrize("ask", [connect, migrate])
def test_a_password_that_holds_an_at_sign_is_told_to_be_encoded(
    ask: Callable[[str], None], password: str
) -> None:
    with pytest.raises(ShunterError, match="as %40") as caught:
        ask(f"postgresql://me:{password}@127.0.0.1:1/none")
    assert not any(part in str(caught.value) for part in ("aaa", "bbb", "ccc"))


def test_what_the_driver_says_is_told_of_other_urls() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"me:\*\*\*@127.*port 1 failed"):
        connect("postgresql://me:secret@127.0.0.1:1/none")


def test_a_port_that_is_no_number_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="abc"):
        connect("postgresql://127.0.0.1:abc/none")
