"""Celery's remote control of a worker: what `celery inspect` sees of the hub, and what `control revoke` does.

Celery's own commands look into celery.worker.state, so what the hub has in hand is entered there; events
are all it takes to know it. Revoking is replaced: a job is cancelled in Postgres, for every worker.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from celery.worker import state as worker_state
from celery.worker.control import Panel

from shunter.storage.errors import Conflict, NotFound, Unavailable
from shunter.storage.submission import job_id
from shunter.workers.envelope_log import TaskEvent

log = logging.getLogger(__name__)

RETRY_PAUSE_S = 1.0

Cancel = Callable[[UUID], object]


class InHand:
    """An envelope as `celery inspect active` and `reserved` tell of it."""

    # Celery ends requests that a shutdown would leave unacknowledged; these are the hub's to end.
    acknowledged = True
    task = SimpleNamespace(acks_late=True)

    def __init__(self, received: TaskEvent, hostname: str) -> None:
        self.id = str(received.fields["uuid"])
        self.name = str(received.fields["name"])
        self.time_start: float | None = None
        self._fields = received.fields
        self._hostname = hostname

    def info(self, safe: bool = False) -> dict[str, Any]:
        """What Celery sends of a request."""
        return {
            "id": self.id,
            "name": self.name,
            "args": self._fields["args"],
            "kwargs": self._fields["kwargs"],
            "type": self.name,
            "hostname": self._hostname,
            "time_start": self.time_start,
            "acknowledged": self.acknowledged,
            "delivery_info": {"exchange": "", "routing_key": self.name},
            "worker_pid": None,
        }


class HandOver:
    """Enters into Celery's worker state what the hub has in hand; only on the loop's thread."""

    def __init__(self) -> None:
        # Celery's sets are weak, and it clears one of them when the connection is lost.
        self._requests: dict[str, InHand] = {}

    def note(self, events: Iterable[TaskEvent], hostname: str) -> None:
        """Follow what became of envelopes."""
        for event in events:
            id = event.fields["uuid"]
            if event.type == "task-received":
                self._receive(id, InHand(event, hostname))
            elif event.type == "task-started":
                self._start(id, event.fields["timestamp"])
            else:
                self._end(id)

    def _receive(self, id: str, request: InHand) -> None:
        if id not in self._requests:
            self._requests[id] = request
            worker_state.task_reserved(request)

    def _start(self, id: str, now: float) -> None:
        request = self._requests.get(id)
        if request is not None:
            request.time_start = now
            worker_state.task_accepted(request)

    def _end(self, id: str) -> None:
        request = self._requests.pop(id, None)
        if request is not None:
            worker_state.task_ready(request)


class Revoker:
    """Cancels jobs on a thread of its own, so that remote control never waits for Postgres."""

    def __init__(self, cancel: Cancel) -> None:
        self._cancel = cancel
        self._ids: SimpleQueue[str | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="revoker", daemon=True)
        self._thread.start()

    def revoke(self, ids: Iterable[str]) -> None:
        """Cancel these jobs soon; ids that name no unfinished job are passed over."""
        for id in ids:
            self._ids.put(id)

    def stop(self) -> None:
        """Cancel what was asked if Postgres answers, then end."""
        self._stopped.set()
        self._ids.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (id := self._ids.get()) is not None:
            self._serve(id)

    def _serve(self, id: str) -> None:
        while True:
            try:
                self._cancel(job_id(id))
            except (NotFound, Conflict) as error:
                log.info("nothing to revoke: %s", error)
            except Unavailable as error:
                log.warning("job %s is not revoked yet: %s", id, error)
                if not self._stopped.wait(RETRY_PAUSE_S):
                    continue
            else:
                log.info("job %s was revoked", id)
            return


def replace_commands() -> None:
    """Make this process' `revoke` and `terminate` cancel jobs; the replies stay Celery's."""
    Panel.register(name="revoke", variadic="task_id", signature="[id1 [id2 [... [idN]]]]")(_revoke)
    Panel.register(
        name="terminate",
        variadic="task_id",
        args=[("signal", str)],
        signature="<signal> [id1 [id2 [... [idN]]]]",
    )(_terminate)


def _revoke(state: Any, task_id: Any, terminate: bool = False, **_: Any) -> dict[str, str]:
    """Cancel jobs by id, queued or running."""
    ids = {str(id) for id in ([task_id] if isinstance(task_id, str) else task_id or ())}
    worker_state.revoked.update(ids)
    state.app.shunter_revoker.revoke(ids)
    return {"ok": f"terminate: {', '.join(ids)}" if terminate else f"tasks {ids} flagged as revoked"}


def _terminate(state: Any, signal: Any, task_id: Any, **_: Any) -> dict[str, str]:
    """Cancel jobs by id; the signal is not sent, since an engine runs rows of many jobs."""
    return _revoke(state, task_id, terminate=True)
