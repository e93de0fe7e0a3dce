"""The hub's writing side of Postgres: outcomes, as many per transaction as have come together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple
from uuid import UUID

import psycopg2

from shunter.storage import failpoints
from shunter.storage.envelope import Due, pack
from shunter.storage.errors import DatabaseUnavailable, QueueUnavailable
from shunter.storage.job import Move
from shunter.storage.job_repository import JobRepository
from shunter.storage.outcome import Outcome, failed
from shunter.workers.aside import Aside
from shunter.workers.lists import Lists

log = logging.getLogger(__name__)

MAX_OUTCOMES = 1000
"""Outcomes written by one statement."""

MAX_BYTES = 32 * 2**20
"""Bytes of outputs and messages written by one statement."""

FEW_OUTCOMES = 8
"""To write so few takes hardly more time than to write one."""

MAX_ANNOUNCED = 16
"""So few outcomes are announced to whoever waits; where more end together, asking now and then will do."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0


Announce = Callable[[Collection[UUID]], None]
"""Tells whoever waits that these jobs have ended; as good as it can, and raising nothing."""


class Settlement(NamedTuple):
    """An outcome, and the worker whose claim it was."""

    outcome: Outcome
    worker: UUID


@dataclass(frozen=True, slots=True)
class Settled:
    """These are done with; `written` are the ids whose claim still held."""

    settlements: tuple[Settlement, ...]
    written: frozenset[UUID]


class Settler:
    """Writes outcomes until Postgres takes them: it never drops one."""

    def __init__(
        self,
        repository: JobRepository,
        lists: Lists,
        mailbox: Callable[[Any], None],
        *,
        announce: Announce,
    ) -> None:
        self._announce = announce
        self._repository = repository
        self._lists = lists
        self._mailbox = mailbox
        self._queue: SimpleQueue[Sequence[Settlement] | None] = SimpleQueue()
        self._aside: Aside[Sequence[Settlement]] = Aside()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="settler", daemon=True)
        self._thread.start()

    def settle(self, settlements: Sequence[Settlement], *, last: bool = False) -> None:
        """Have outcomes written; Settled follows. The `last` ones that the hub holds keep nobody waiting."""
        few = last and len(settlements) <= FEW_OUTCOMES
        if not (few and self._queue.empty() and self._aside.keep(settlements)):
            self._queue.put(settlements)

    def helped(self) -> AbstractContextManager[None]:
        """At the end of the block this thread writes the last outcomes that it has handed over."""
        return self._aside.kept_for(self._write_here)

    @property
    def keeps(self) -> bool:
        """Whether this thread is about to write outcomes: then there will be news at once."""
        return self._aside.keeps

    def stop(self, timeout_s: float) -> None:
        """Write what is waiting, then end; after `timeout_s` the rescuer must put the rest back."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        more = True
        while more:
            batch, more = self._gather()
            for part in parts(batch):
                self._write(part)

    def _write_here(self, settlements: Sequence[Settlement]) -> None:
        try:
            for part in parts(settlements):
                self._write_once(part, announce=self._announce_here)
        except DatabaseUnavailable:
            # The other thread has the time to try again; what is written already stays as it is.
            self._queue.put(settlements)

    def _gather(self) -> tuple[list[Settlement], bool]:
        """All that has come together, at least one; False beside it when nothing more will come."""
        batch: list[Settlement] = []
        more = self._queue.get()
        while more is not None:
            batch += more
            if len(batch) >= MAX_OUTCOMES:
                break
            try:
                more = self._queue.get_nowait()
            except Empty:
                return batch, True
        return batch, more is not None

    def _write(self, batch: Sequence[Settlement]) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._write_once(batch, announce=self._announce)
                return
            except DatabaseUnavailable as error:
                log.warning("%d outcomes wait to be written: %s", len(batch), error)
                # A stopping hub keeps trying too: its grace time ends the process, not this loop.
                threading.Event().wait(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _write_once(self, batch: Sequence[Settlement], *, announce: Announce) -> None:
        """Write outcomes of one worker; DatabaseUnavailable leaves it unknown whether they are written."""
        outcomes = [settlement.outcome for settlement in batch]
        try:
            failpoints.hit("settle.before")
            written = self._repository.settle(outcomes, worker=batch[0].worker)
            failpoints.hit("settle.committed")
        except psycopg2.DataError as error:
            self._write_apart(batch, error, announce=announce)
            return
        if len(written) < len(outcomes):
            written |= self._written_before(outcomes, written)
        if len(written) <= MAX_ANNOUNCED:
            announce([o.id for o in outcomes if o.id in written and o.state.terminal])
        self._push_back([o.id for o in outcomes if o.move is Move.RETURN and o.id in written])
        self._mailbox(Settled(tuple(batch), frozenset(written)))

    def _write_apart(
        self, batch: Sequence[Settlement], error: psycopg2.DataError, *, announce: Announce
    ) -> None:
        """Postgres cannot hold one of these outcomes: that job fails, and no other."""
        if len(batch) > 1:
            for settlement in batch:
                self._write_once([settlement], announce=announce)
            return
        (refused,) = batch
        outcome = refused.outcome
        log.error("Postgres refuses the outcome of job %s: %s", outcome.id, error)
        rows = outcome.rows_succeeded + outcome.rows_failed
        plain = failed(outcome.id, outcome.epoch, code="bad_outcome", message=str(error), rows=rows)
        self._write_once([refused._replace(outcome=plain)], announce=announce)

    def _written_before(self, outcomes: Sequence[Outcome], written: set[UUID]) -> set[UUID]:
        """The reply to a commit may have been lost: then the rows already say what we wanted to write."""
        rest = [outcome for outcome in outcomes if outcome.id not in written]
        rows = self._repository.get_many([outcome.id for outcome in rest])
        return {
            o.id for o in rest if o.id in rows and (rows[o.id].epoch, rows[o.id].state) == (o.epoch, o.state)
        }

    def _announce_here(self, ids: Collection[UUID]) -> None:
        """By this thread, since whoever waits for one of the last jobs waits for nothing else."""
        if ids:
            with suppress(QueueUnavailable):
                self._lists.announce(ids)

    def _push_back(self, ids: Sequence[UUID]) -> None:
        """Jobs that go back at once get their envelope at once; the relay is for those that were lost."""
        if not ids:
            return
        try:
            rows = sorted(self._repository.get_many(ids).values(), key=lambda job: job.id)
            due = [Due(job.id, job.model, job.version, job.rows, job.priority) for job in rows]
            if due:
                self._lists.push(pack(due, min(job.enqueued_at for job in rows).timestamp()))
        except (DatabaseUnavailable, QueueUnavailable) as error:
            log.warning("%d returned jobs are left to the relay: %s", len(ids), error)


def parts(settlements: Sequence[Settlement]) -> Iterator[list[Settlement]]:
    """The same settlements in parts that one statement may write, each of one worker."""
    part: list[Settlement] = []
    size = 0
    for settlement in settlements:
        more = _size(settlement.outcome)
        full = len(part) == MAX_OUTCOMES or size + more > MAX_BYTES
        if part and (full or settlement.worker != part[0].worker):
            yield part
            part, size = [], 0
        part.append(settlement)
        size += more
    if part:
        yield part


def _size(outcome: Outcome) -> int:
    blob, failures = outcome.output, outcome.failures
    inline = len(blob.inline) if blob is not None and blob.inline is not None else 0
    return inline + sum([len(failure.message) for failure in failures])
