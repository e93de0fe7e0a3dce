"""A pool of connections, here to nowhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest

from shunter.storage.connections import Connections


class Connection:
    """Can be closed."""

    closed = 0

    def close(self) -> None:
        self.closed = 1


def pool(*, kept: int = 2, most: int = 3, wait_s: float = 0.01) -> Connections:
    connect: Any = Connection
    return Connections(connect, kept=kept, most=most, wait_s=wait_s)


def test_the_one_that_came_back_last_is_taken_first() -> None:
    connections = pool()
    first, second = connections.take(), connections.take()
    connections.give_back(first)
    connections.give_back(second)
    assert connections.take() is second
    assert connections.take() is first


def test_only_so_many_stay_open() -> None:
    connections = pool()
    used = [connections.take() for _ in range(3)]
    for connection in used:
        connections.give_back(connection)
    assert [bool(connection.closed) for connection in used] == [False, False, True]


def test_a_closed_one_is_not_taken_again() -> None:
    connections = pool()
    broken = connections.take()
    broken.close()
    connections.give_back(broken)
    assert connections.take() is not broken


def test_who_finds_all_in_use_is_told_so() -> None:
    connections = pool(most=1)
    connections.take()
    with pytest.raises(psycopg2.OperationalError, match="all 1 connections"):
        connections.take()


def test_who_finds_all_in_use_gets_the_next_that_comes_back() -> None:
    connections = pool(most=1, wait_s=10)
    only = connections.take()
    with ThreadPoolExecutor(1) as others:
        waiting = others.submit(connections.take)
        connections.give_back(only)
        assert waiting.result(10) is only


def test_one_that_could_not_be_opened_counts_as_none() -> None:
    answers: list[Any] = [psycopg2.OperationalError("refused"), Connection()]

    def connect() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    connections = Connections(connect, kept=1, most=1, wait_s=0.01)
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        connections.take()
    assert not connections.take().closed


def test_closing_closes_what_is_idle_and_what_comes_back() -> None:
    connections = pool()
    idle, used = connections.take(), connections.take()
    connections.give_back(idle)
    connections.close()
    assert (bool(idle.closed), bool(used.closed)) == (True, False)
    connections.give_back(used)
    assert used.closed
