"""Waiting for jobs: one thread asks about everything that anybody waits for, in one statement.

Postgres is asked now and then, and at once when a worker names a job that is waited for. Hints may be lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from uuid import UUID

from shunter.storage.errors import Unavailable, UnknownJob
from shunter.storage.job import JobState

log = logging.getLogger(__name__)

FIRST_INTERVAL_S = 0.005
LONGEST_INTERVAL_S = 0.25
GROWTH = 1.5
REST_PER_COST = 10
"""After a question that took t seconds, the watcher rests at least so many t: it may not load Postgres."""

LISTEN_AGAIN_S = 1.0
IDLE_S = 5.0
"""The thread ends when nobody has waited for so long."""

Ask = Callable[[Collection[UUID]], Mapping[UUID, JobState]]
Hints = Callable[[Callable[[], bool]], Iterator[Collection[UUID]]]
"""Yields jobs that have just ended, until the argument says that nobody wants them."""

Tell = Callable[[UUID, Exception | None], None]
"""Called once, in the watcher's thread: the job has finished, or will never be heard of."""


@dataclass(slots=True)
class Pace:
    """How long to rest between questions: short while things happen, longer while they do not."""

    interval_s: float = FIRST_INTERVAL_S

    def after(self, *, progress: bool, cost_s: float) -> float:
        """The rest after a question that took `cost_s`; progress starts the pace anew."""
        grown = min(self.interval_s * GROWTH, LONGEST_INTERVAL_S)
        self.interval_s = FIRST_INTERVAL_S if progress else grown
        return max(self.interval_s, REST_PER_COST * cost_s)


class Watcher:
    """Tells whoever waits when jobs finish; `ask_ended`, if given, asks about those that a hint names."""

    def __init__(
        self,
        ask: Ask,
        *,
        hints: Hints,
        ask_ended: Ask | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._ask_ended = ask_ended or ask
        self._hints = hints
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: dict[UUID, list[Tell]] = {}
        self._thread: threading.Thread | None = None
        self._listener: threading.Thread | None = None
        self._listen_at = 0.0
        self._news = False
        self._outage = False
        self._closed = False

    def add(self, ids: Collection[UUID], tell: Tell) -> None:
        """Call `tell` once for each of these jobs."""
        with self._changed:
            for id in ids:
                self._waiting.setdefault(id, []).append(tell)
            self._news = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="shunter-watcher", daemon=True)
                self._thread.start()
                self._listen()
            self._changed.notify()

    def remove(self, ids: Collection[UUID], tell: Tell) -> None:
        """Forget that somebody waits; jobs already told are no matter."""
        with self._changed:
            for id in ids:
                left = [other for other in self._waiting.get(id, ()) if other is not tell]
                if left:
                    self._waiting[id] = left
                else:
                    self._waiting.pop(id, None)

    def close(self) -> None:
        """End the thread; whoever still waits gets Unavailable."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            threads = (self._thread, self._listener)
            left = list(self._waiting)
        self._tell(dict.fromkeys(left, Unavailable("the client was closed while this was waiting")))
        for thread in threads:
            if thread is not None and thread is not threading.current_thread():
                thread.join()

    def _run(self) -> None:
        pace = Pace()
        while ids := self._next_question():
            began = self._clock()
            progress = self._ask_and_tell(self._ask, ids)
            ended = self._clock()
            self._rest(pace, ended, cost_s=ended - began, progress=progress)

    def _listen(self) -> None:
        """Have a thread hear hints for as long as the other asks; an earlier one may still be ending."""
        if self._listener is None or not self._listener.is_alive():
            self._listener = threading.Thread(target=self._hear, name="shunter-hints", daemon=True)
            self._listener.start()

    def _hear(self) -> None:
        try:
            for ids in self._hints(lambda: self._thread is not None):
                with self._changed:
                    named = [id for id in ids if id in self._waiting]
                if named:
                    # Here, since the other thread would have to be woken for it.
                    self._ask_and_tell(self._ask_ended, named)
        except Unavailable as error:
            log.debug("waiting goes on without hints: %s", error)

    def _next_question(self) -> Sequence[UUID]:
        """The jobs to ask about, as soon as there are any; none when the thread is to end."""
        with self._changed:
            if not self._waiting and not self._closed:
                self._changed.wait(IDLE_S)
            self._news = False
            if self._closed or not self._waiting:
                self._thread = None
                return ()
            if self._clock() >= self._listen_at:
                # Hints end with an outage of Redis, and are wanted again after it.
                self._listen_at = self._clock() + LISTEN_AGAIN_S
                self._listen()
            return list(self._waiting)

    def _ask_and_tell(self, ask: Ask, ids: Sequence[UUID]) -> bool:
        try:
            states = ask(ids)
        except Unavailable as error:
            if not self._outage:
                log.warning("waiting goes on through an outage: %s", error)
            self._outage = True
            return False
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, or would wait for ever
            self._tell(dict.fromkeys(ids, error))
            return True
        self._outage = False
        gone: dict[UUID, Exception | None] = {id: UnknownJob(id) for id in ids if id not in states}
        done: dict[UUID, Exception | None] = {id: None for id, state in states.items() if state.terminal}
        self._tell(done | gone)
        return bool(done or gone)

    def _tell(self, answers: Mapping[UUID, Exception | None]) -> None:
        with self._changed:
            tells = [(id, error, self._waiting.pop(id, ())) for id, error in answers.items()]
        for id, error, whom in tells:
            for tell in whom:
                tell(id, error)

    def _rest(self, pace: Pace, ended: float, *, cost_s: float, progress: bool) -> None:
        until = ended + pace.after(progress=progress, cost_s=cost_s)
        with self._changed:
            while not self._closed and (left := until - self._clock()) > 0:
                if self._news:
                    # A new question is asked soon, though never faster than the cost allows.
                    self._news = False
                    until = min(until, ended + pace.after(progress=True, cost_s=cost_s))
                    continue
                self._changed.wait(left)


class WatcherWatch:
    """One thread's wait for several jobs."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._told: SimpleQueue[tuple[UUID, Exception | None]] = SimpleQueue()
        self._open: set[UUID] = set()
        self._tell: Tell = lambda id, error: self._told.put((id, error))

    def add(self, ids: Collection[UUID]) -> None:
        fresh = set(ids) - self._open
        self._open |= fresh
        self._watcher.add(fresh, self._tell)

    def next(self, timeout_s: float | None) -> Sequence[UUID]:
        finished: list[UUID] = []
        try:
            finished.append(self._take(timeout_s))
            while True:
                finished.append(self._take(0))
        except Empty:
            return finished

    def close(self) -> None:
        self._watcher.remove(self._open, self._tell)

    def _take(self, timeout_s: float | None) -> UUID:
        id, error = self._told.get(block=timeout_s != 0, timeout=timeout_s or None)
        self._open.discard(id)
        if error is not None:
            raise error
        return id
