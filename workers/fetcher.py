"""The hub's hand in Redis: pops what there is room for, drops what is acked, sleeps when there is nothing."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

import redis

from shunter.storage import failpoints
from shunter.storage.envelope import queue_of
from shunter.storage.errors import QueueUnavailable
from shunter.workers.lists import Bunch, Lists, Rooms
from shunter.workers.lookout import Lookout

log = logging.getLogger(__name__)

FIRST_NAP_S, LONGEST_NAP_S = 0.02, 0.25
"""How long an idle fetcher sleeps unless woken; only plain Celery producers leave no token to wake it."""

STALE_LOOK_S = 2.0
OUTAGE_PAUSE_S = 0.5


class Fetcher:
    """One thread and two connections: one asks, the other waits for tokens and what comes with them.

    `queues` tells which queues Celery's consumer serves now. A queue whose last bunch the hub has not seen
    yet is left alone: the room that was granted for it is spent.
    """

    def __init__(
        self, lists: Lists, queues: Callable[[], frozenset[str]], mailbox: Callable[[Any], None]
    ) -> None:
        self._lists = lists
        self._queues = queues
        self._mailbox = mailbox
        self._lock = threading.Lock()
        self._rooms: dict[str, Rooms] = {}
        self._unseen: set[str] = set()
        self._acks: list[Bunch] = []
        self._refused: list[Bunch] = []
        self._ended: list[UUID] = []
        self._stopping = False
        self._told = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lookout = Lookout(lists)
        self._nap_s = FIRST_NAP_S
        self._look_at = 0.0
        self._stale_at = 0.0
        self._thread = threading.Thread(target=self._loop, name="fetcher", daemon=True)
        self._thread.start()

    def grant(self, rooms: Mapping[str, Rooms]) -> None:
        """How many envelopes of each queue the hub has room for; replaces what was granted before."""
        with self._lock:
            news = any(_size(room) > _size(self._rooms.get(queue, {})) for queue, room in rooms.items())
            self._rooms = {queue: room for queue, room in rooms.items() if _size(room)}
        if news:
            self._tell()

    def seen(self, queues: Iterable[str]) -> None:
        """The hub has counted the last bunch of these queues into the room it grants next."""
        with self._lock:
            self._unseen.difference_update(queues)

    def ack(self, bunch: Bunch) -> None:
        """Everything in this bunch is claimed, or needs nothing."""
        with self._lock:
            self._acks.append(bunch)
        self._tell()

    def refuse(self, bunch: Bunch) -> None:
        """Nothing in this bunch was claimed: it goes back to the head of its lists."""
        with self._lock:
            self._refused.append(bunch)
        self._tell()

    def announce(self, ids: Iterable[UUID]) -> None:
        """Tell whoever waits that these jobs have ended; forgotten if Redis does not answer."""
        with self._lock:
            if not self._stopping:
                self._ended += ids
                self._tell()

    def stop(self) -> None:
        """Drop and give back what was asked, then end."""
        with self._lock:
            self._stopping = True
        self._tell()
        self._thread.join()
        self._lookout.close()
        os.close(self._told)

    def _tell(self) -> None:
        os.eventfd_write(self._told, 1)

    def _loop(self) -> None:
        silent, brought = False, None
        while True:
            stopping = self._stopping
            try:
                if brought is not None:
                    self._bring_if_served(brought)
                self._exchange()
                silent = False
            except QueueUnavailable as error:
                if not silent:
                    log.warning("nothing can be fetched: %s", error)
                silent = True
                self._lookout.close()
            if stopping:
                return
            brought = self._sleep(OUTAGE_PAUSE_S if silent else self._rest())

    def _exchange(self) -> None:
        """One round: what is due is written, and a bunch fetched if there is room.

        After a bunch the next round begins with its ack, or with a token: what it left has one.
        """
        now = time.monotonic()
        with self._lock:
            acks, self._acks = self._acks, []
            refused, self._refused = self._refused, []
            ended, self._ended = self._ended, []
            # Lists that were empty a moment ago are looked into again when a token comes, or after a nap.
            rooms = self._open_rooms() if now >= self._look_at and not self._stopping else {}
        try:
            if ended:
                self._lists.announce(ended)
            self._lists.give_back(refused)
            self._give_back_stale(now)
            if acks:
                failpoints.hit("ack.before")
            bunch = self._lists.fetch(rooms, acks) if rooms or acks else None
            if acks:
                failpoints.hit("ack.sent")
        except QueueUnavailable:
            with self._lock:
                self._acks += acks
                self._refused += refused
            raise
        if bunch is None:
            if rooms:
                self._nap_s = min(self._nap_s * 2, LONGEST_NAP_S)
                self._look_at = now + self._nap_s
        else:
            self._bring(bunch)

    def _bring(self, bunch: Bunch) -> None:
        failpoints.hit("fetch.popped")
        self._wake()
        with self._lock:
            self._unseen.update(queue_of(name) for name, _ in bunch.entries)
        self._mailbox(bunch)

    def _bring_if_served(self, bunch: Bunch) -> None:
        """Redis brings with a token what was asked for before it, maybe from a queue that was left since."""
        if self._queues() >= {queue_of(name) for name, _ in bunch.entries}:
            self._bring(bunch)
        else:
            self._lists.give_back([bunch])

    def _open_rooms(self) -> dict[str, Rooms]:
        served = self._queues() - self._unseen
        return {queue: room for queue, room in self._rooms.items() if queue in served}

    def _rest(self) -> float:
        """Seconds until the lists are looked into again; without room the hub tells when there is some."""
        rest = self._look_at - time.monotonic()
        return rest if rest > 0 else LONGEST_NAP_S

    def _wake(self) -> None:
        self._nap_s, self._look_at = FIRST_NAP_S, 0.0

    def _give_back_stale(self, now: float) -> None:
        if now >= self._stale_at:
            self._stale_at = now + STALE_LOOK_S
            moved = self._lists.give_back_stale()
            if moved:
                log.warning("%d envelopes that a worker had popped and not acked went back", moved)

    def _sleep(self, seconds: float) -> Bunch | None:
        """Until the hub says something, a token comes, or the time has passed; what came with the token."""
        waiting: list[Any] = [self._told]
        queues = self._queues()
        with self._lock:
            granted, rooms = set(self._rooms), {} if self._stopping else self._open_rooms()
        try:
            self._lookout.stay_within(queues & granted)
            waiting += self._lookout.wait_for(sorted(queues), rooms)
        except (QueueUnavailable, redis.exceptions.RedisError, OSError):
            self._lookout.close()
        ready, _, _ = select.select(waiting, [], [], seconds)
        if self._told in ready:
            os.eventfd_read(self._told)
        if len(ready) == (self._told in ready):
            return None
        self._wake()
        return self._lookout.take()


def _size(rooms: Rooms) -> int:
    return sum(room for room, _ in rooms.values())
