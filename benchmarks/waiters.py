"""Idle consumers for `benchmarks.transport idle`: three ways to wait for a message, as small loops.

Run as `python -m benchmarks.waiters STRATEGY [COUNT]`; prints the id of each message and the moment it came.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping

from benchmarks.rig import POLL_S
from shunter.storage.envelope import decode, queue_name
from shunter.storage.job import Priority
from shunter.storage.settings import Settings
from shunter.workers.fetcher import Fetcher
from shunter.workers.lists import Bunch, Lists
from shunter.workers.room import ClassRoom

MODEL = "noop"
QUEUE = queue_name(MODEL)
ROOM = dict.fromkeys(Priority, ClassRoom(512, 0))
BLOCK_S = 1.0


def tell(bunch: Bunch) -> None:
    """Print what has come, and when; the clock is the same for all processes."""
    now = time.monotonic()
    for _, raw in bunch.entries:
        # One write, so that the lines of many threads stay whole.
        os.write(sys.stdout.fileno(), f"{decode(raw).id} {now}\n".encode())


def poll(lists: Lists, every_s: float = POLL_S) -> None:
    """Ask again and again."""
    acks: list[Bunch] = []
    while True:
        bunch = lists.fetch({QUEUE: ROOM}, acks)
        acks = [bunch] if bunch is not None else []
        if bunch is None:
            time.sleep(every_s)
        else:
            tell(bunch)


def block(lists: Lists) -> None:
    """Move the head of a list onto itself, which waits for one; then pop. Watches one list of a queue."""
    connection = lists.connection()
    acks: list[Bunch] = []
    while True:
        connection.send_command("BLMOVE", QUEUE, QUEUE, "RIGHT", "RIGHT", BLOCK_S)
        found = connection.read_response()
        bunch = lists.fetch({QUEUE: ROOM}, acks) if found or acks else None
        acks = [bunch] if bunch is not None else []
        if bunch is not None:
            tell(bunch)


class _Woken:
    """One fetcher as the hub uses it."""

    def __init__(self, lists: Lists) -> None:
        self._made = threading.Event()
        self._fetcher = Fetcher(lists, lambda: frozenset({QUEUE}), self._take)
        self._made.set()
        self._fetcher.grant({QUEUE: ROOM})

    def _take(self, bunch: Bunch) -> None:
        tell(bunch)
        self._made.wait()
        self._fetcher.seen([QUEUE])
        self._fetcher.ack(bunch)


def wake(lists: Lists) -> None:
    """Ours: a token wakes, and a look every quarter of a second finds what came without one."""
    _Woken(lists)
    threading.Event().wait()


STRATEGIES: Mapping[str, Callable[[Lists], None]] = {"poll": poll, "block": block, "wake": wake}


def main() -> None:
    """Wait for messages for ever, with several consumers if asked."""
    strategy, count = sys.argv[1], int((sys.argv[2:] or ["1"])[0])
    url = Settings.from_environment().redis_url
    for _ in range(count):
        threading.Thread(target=STRATEGIES[strategy], args=(Lists(url),), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
