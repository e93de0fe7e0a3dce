"""Celery's remote control of a worker: what `celery inspect` sees of the hub, and what `control revoke` does.

Celery's own commands look into celery.worker.state, which is kept per message and is dear; so they are
replaced by ones that ask the hub as well, when they are called. Revoking is replaced too: a job is cancelled
in Postgres, for every worker.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from celery.worker import control, heartbeat
from celery.worker import state as worker_state
from celery.worker.control import Panel

from shunter.storage.envelope import queue_name
from shunter.storage.errors import Conflict, NotFound, Unavailable
from shunter.storage.submission import job_id
from shunter.workers.envelope_log import InHand

log = logging.getLogger(__name__)

RETRY_PAUSE_S = 1.0

Cancel = Callable[[UUID], object]


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


class _Active:
    """Stands for Celery's set of active requests in its heartbeat, which asks for nothing but the length."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count()


class _Processed:
    """Stands for Celery's list that holds the number of all tasks so far."""

    def __init__(self, taken: Callable[[], Counter[str]]) -> None:
        self._taken = taken

    def __getitem__(self, index: int) -> int:
        return self._taken().total()


def count_in_heartbeats(started: Callable[[], int], taken: Callable[[], Counter[str]]) -> None:
    """Make this process' heartbeat events, from which Flower shows its workers, count what the hub has."""
    heartbeat.active_requests = _Active(started)
    heartbeat.all_total_count = _Processed(taken)


def replace_commands() -> None:
    """Make this process' commands know what the hub has in hand; the replies stay Celery's."""
    Panel.register(name="active", alias="dump_active")(_active)
    Panel.register(name="reserved", alias="dump_reserved")(_reserved)
    Panel.register(name="query_task", variadic="ids", signature="[id1 [id2 [... [idN]]]]")(_query_task)
    Panel.register(name="stats")(_stats)
    Panel.register(name="revoke", variadic="task_id", signature="[id1 [id2 [... [idN]]]]")(_revoke)
    Panel.register(
        name="terminate",
        variadic="task_id",
        args=[("signal", str)],
        signature="<signal> [id1 [id2 [... [idN]]]]",
    )(_terminate)


def _active(state: Any, safe: bool = False, **_: Any) -> list[dict[str, Any]]:
    """Envelopes with a job in the model."""
    own = [_info(found, state.hostname) for found in _in_hand(state) if found.started_at is not None]
    return [*control.active(state, safe=safe), *own]


def _reserved(state: Any, **_: Any) -> list[dict[str, Any]]:
    """Envelopes that wait for the model."""
    own = [_info(found, state.hostname) for found in _in_hand(state) if found.started_at is None]
    return [*control.reserved(state), *own]


def _query_task(state: Any, ids: Any, **_: Any) -> dict[str, Any]:
    """Envelopes by id, and where they stand."""
    asked = {ids} if isinstance(ids, str) else set(ids or ())
    found_by_celery: dict[str, Any] = control.query_task(state, asked)
    return found_by_celery | {
        str(found.envelope.id): (
            "reserved" if found.started_at is None else "active",
            _info(found, state.hostname),
        )
        for found in _in_hand(state)
        if str(found.envelope.id) in asked
    }


def _stats(state: Any, **_: Any) -> dict[str, Any]:
    """Celery's figures of the worker; `total` counts envelopes by queue."""
    stats: dict[str, Any] = control.stats(state)
    return stats | {"total": stats["total"] | state.app.shunter_hub.taken()}


def _in_hand(state: Any) -> list[InHand]:
    found: list[InHand] = state.app.shunter_hub.in_hand()
    return found


def _info(found: InHand, hostname: str) -> dict[str, Any]:
    envelope = found.envelope
    queue = queue_name(envelope.model)
    return {
        "id": str(envelope.id),
        "name": queue,
        "args": f"({envelope.title!r},)",
        "kwargs": envelope.span,
        "type": queue,
        "hostname": hostname,
        "time_start": found.started_at,
        "acknowledged": True,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "worker_pid": None,
    }


def _revoke(state: Any, task_id: Any, terminate: bool = False, **_: Any) -> dict[str, str]:
    """Cancel jobs by id, queued or running."""
    ids = {str(id) for id in ([task_id] if isinstance(task_id, str) else task_id or ())}
    worker_state.revoked.update(ids)
    state.app.shunter_revoker.revoke(ids)
    return {"ok": f"terminate: {', '.join(ids)}" if terminate else f"tasks {ids} flagged as revoked"}


def _terminate(state: Any, signal: Any, task_id: Any, **_: Any) -> dict[str, str]:
    """Cancel jobs by id; the signal is not sent, since an engine runs rows of many jobs."""
    return _revoke(state, task_id, terminate=True)
