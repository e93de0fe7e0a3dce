"""Duties are done when they are due, and soon when there is news."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shunter.workers.housekeeping import Housekeeper
from tests.waiting import wait_until


class Rare:
    """A duty that is due at once, and then not for an hour."""

    interval_s = 3600.0

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.rounds = 0
        self._then = then

    def run_once(self) -> int:
        self.rounds += 1
        self._then()
        return 0


@contextmanager
def housekeeper(*duties: Rare, news: threading.Event | None = None) -> Iterator[None]:
    keeper = Housekeeper(duties, news=news)
    try:
        yield
    finally:
        keeper.stop()


def test_news_make_every_duty_due() -> None:
    news, duties = threading.Event(), [Rare(), Rare()]
    with housekeeper(*duties, news=news):
        wait_until(lambda: [duty.rounds for duty in duties] == [1, 1])
        news.set()
        wait_until(lambda: [duty.rounds for duty in duties] == [2, 2])


def test_news_without_end_keep_no_duty_from_its_turn() -> None:
    news = threading.Event()
    first, second = Rare(then=news.set), Rare()
    with housekeeper(first, second, news=news):
        wait_until(lambda: second.rounds >= 3)


def test_it_ends_while_nothing_is_due() -> None:
    duty = Rare()
    with housekeeper(duty):
        wait_until(lambda: duty.rounds == 1)
