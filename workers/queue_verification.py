"""Whether what lies in Redis agrees with Postgres: lost envelopes, bunches that nobody acks, strange lists.

It only reads. Redis is a hint, so that nothing here loses a job; but what stays wrong is a duty not done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from uuid import UUID

from shunter.storage.envelope import QUEUE_PREFIX, decode, list_key, queue_name
from shunter.storage.errors import EnvelopeError, QueueUnavailable
from shunter.storage.job_facts import JobFactsReader
from shunter.storage.job_repair import JobRepair
from shunter.storage.settings import redact
from shunter.storage.verification import CONFIRM_AFTER_S, Finding
from shunter.workers.lists import Lists
from shunter.workers.transport import BUNCH_PREFIX, INDEX_KEY, OUTAGES, STALE_S, connect

LOST_AFTER_S = 30.0
"""The relay takes an envelope for lost, and pushes another, well before."""

STALE_BUNCH_S = 3 * STALE_S

PAGE = 500


class QueueVerification:
    """Looks at every line and every bunch; and at what looked wrong, once more."""

    def __init__(
        self,
        url: str,
        repair: JobRepair,
        reader: JobFactsReader,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url
        self._repair = repair
        self._reader = reader
        self._pause = pause
        self.envelopes = 0

    def run(self) -> list[Finding]:
        """What is wrong. Raises Unavailable."""
        suspects = self._look()
        if not suspects:
            return []
        self._pause(CONFIRM_AFTER_S)
        again = {(finding.check, finding.subject): finding for finding in self._look()}
        return [again[key] for key in ((f.check, f.subject) for f in suspects) if key in again]

    def _look(self) -> list[Finding]:
        self.envelopes = 0
        try:
            client = connect(self._url)
            try:
                return [*self._lost(), *self._bunches(client), *self._strangers(client)]
            finally:
                client.close()
        except OUTAGES as error:
            raise QueueUnavailable(f"Redis at {redact(self._url)} does not answer: {error}") from error

    def _lost(self) -> Iterator[Finding]:
        """I5: queued jobs older than the head of their list have no envelope."""
        oldest, now = self._repair.oldest_queued()
        with closing(Lists(self._url)) as lists:
            for (model, priority), oldest_at in oldest.items():
                key = list_key(queue_name(model), priority)
                head = lists.head_enqueued_at(key)
                late_s = (now.timestamp() if head is None else head) - oldest_at.timestamp()
                if late_s > LOST_AFTER_S:
                    message = (
                        f"a queued job is {late_s:.0f} s older than every envelope: "
                        "is a worker alive to push another?"
                    )
                    yield Finding("envelope", readable(key), message)

    def _bunches(self, client: Any) -> Iterator[Finding]:
        """I5: what was popped is acked or goes back."""
        seconds, _ = client.time()
        oldest_ms = (seconds - STALE_BUNCH_S) * 1000
        for name in client.zrangebyscore(INDEX_KEY, 0, oldest_ms, start=0, num=PAGE):
            message = f"nobody has acked it for {STALE_BUNCH_S:.0f} s: is a worker alive to give it back?"
            yield Finding("bunch", name.decode(), message)
        for name in client.scan_iter(match=f"{BUNCH_PREFIX}*", count=PAGE):
            if client.zscore(INDEX_KEY, name) is None and client.exists(name):
                yield Finding("bunch", name.decode(), "it is not in the index: nobody will give it back")

    def _strangers(self, client: Any) -> Iterator[Finding]:
        """I5: an envelope names jobs of this database."""
        for key in client.scan_iter(match=f"{QUEUE_PREFIX}*", count=PAGE):
            if client.type(key) != b"list":
                continue
            start = 0
            while raws := client.lrange(key, start, start + PAGE - 1):
                self.envelopes += len(raws)
                start += PAGE
                yield from self._unknown(key.decode("utf-8", "replace"), raws)

    def _unknown(self, key: str, raws: list[bytes]) -> Iterator[Finding]:
        named = {id: raw for raw in raws for id in _ids(raw)}
        known = self._reader.these(named.keys())
        for id in named.keys() - known.keys():
            message = f"an envelope on {readable(key)} names it, and there is no such job: another database?"
            yield Finding("stranger", str(id), message)


def readable(key: str) -> str:
    """A list's name without kombu's control characters."""
    return "".join(c if c.isprintable() else ":" if c == "\x06" else "" for c in key)


def _ids(raw: bytes) -> tuple[UUID, ...]:
    try:
        return decode(raw).ids
    except EnvelopeError:
        # A plain Celery producer's, or one that will be quarantined.
        return ()
