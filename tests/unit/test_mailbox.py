"""Who reads a hub's mail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shunter.workers.mailbox import Mailbox
from tests.waiting import wait_until


class Reader:
    """Reads all there is, and remembers by which thread; `gate` holds it up at each mail."""

    def __init__(self) -> None:
        self.mailbox = Mailbox(self.read, urgent=(str,))
        self.mails: list[Any] = []
        self.threads: list[int] = []
        self.leaves = False
        self.most = 10_000
        self.gate = threading.Event()
        self.gate.set()
        self.at_gate = threading.Event()

    def read(self) -> bool:
        for _ in range(self.most):
            mail = self.mailbox.take()
            if mail is None:
                break
            self.at_gate.set()
            assert self.gate.wait(10)
            self.mails.append(mail)
            self.threads.append(threading.get_ident())
        return self.leaves


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def turn(reader: Reader, timeout_s: float = 10.0) -> None:
    with reader.mailbox.turn(timeout_s):
        reader.read()


def test_urgent_mail_is_read_by_whoever_brings_it_when_nobody_reads(reader: Reader) -> None:
    reader.mailbox.put("urgent")
    assert (reader.mails, reader.threads) == (["urgent"], [threading.get_ident()])


def test_other_mail_waits_for_the_thread_that_waits(reader: Reader) -> None:
    reader.mailbox.put(1)
    assert reader.mails == []
    turn(reader)
    assert reader.mails == [1]


def test_mail_that_comes_while_somebody_reads_is_read_by_them(
    reader: Reader, threads: ThreadPoolExecutor
) -> None:
    reader.gate.clear()
    first = threads.submit(reader.mailbox.put, "first")
    assert reader.at_gate.wait(10)
    reader.mailbox.put("second")
    assert reader.mails == []
    reader.gate.set()
    first.result(10)
    assert reader.mails == ["first", "second"]
    assert len(set(reader.threads)) == 1


def test_what_reading_leaves_is_told_to_the_thread_that_waits(
    reader: Reader, threads: ThreadPoolExecutor
) -> None:
    reader.leaves = True
    waiting = threads.submit(turn, reader)
    reader.mailbox.put("makes work")
    waiting.result(10)


def test_mail_that_a_reader_leaves_is_read_by_the_thread_that_waits(
    reader: Reader, threads: ThreadPoolExecutor
) -> None:
    reader.most = 1
    reader.gate.clear()
    first = threads.submit(reader.mailbox.put, "first")
    assert reader.at_gate.wait(10)
    reader.mailbox.put("second")
    reader.gate.set()
    first.result(10)
    assert reader.mails == ["first"]
    assert reader.mailbox._rung
    turn(reader)
    assert reader.mails == ["first", "second"]


def test_the_thread_that_waits_has_its_turn_without_mail(reader: Reader) -> None:
    turn(reader, timeout_s=0.0)
    assert reader.mails == []


def test_no_mail_is_forgotten_or_doubled_however_many_bring_it(
    reader: Reader, threads: ThreadPoolExecutor
) -> None:
    stopped = threading.Event()

    def wait() -> None:
        while not stopped.is_set():
            turn(reader, timeout_s=0.01)

    def bring(start: int) -> None:
        for number in range(start, start + 500):
            reader.mailbox.put(str(number) if number % 3 else number)

    waiting = threads.submit(wait)
    for done in [threads.submit(bring, start) for start in (0, 500, 1000)]:
        done.result(30)
    wait_until(lambda: len(reader.mails) >= 1500)
    stopped.set()
    waiting.result(10)
    assert sorted(map(int, reader.mails)) == list(range(1500))


def test_a_closed_mailbox_reads_nothing_more(reader: Reader) -> None:
    reader.mailbox.close()
    reader.mailbox.put("late")
    assert reader.mails == []
