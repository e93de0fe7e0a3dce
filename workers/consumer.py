"""Where Celery and the hub meet: Celery serves remote control and events, the hub serves the queues."""

from __future__ import annotations

import signal
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from celery import bootsteps
from celery.platforms import SecurityWarning
from celery.worker.consumer.tasks import Tasks

from shunter.workers.envelope_log import TaskEvent
from shunter.workers.hub import Hub
from shunter.workers.remote_control import Revoker, count_in_heartbeats, replace_commands
from shunter.workers.transport import inference_queues

PUMP_S = 0.02
"""How often a draining worker, whose loop has ended, sends what the hub has to tell."""

EXIT_HUB_FAILED = 70
"""The exit code of a worker of which a thread failed."""


class CeleryWire:
    """The hub's wire to Celery: actions from any thread, done in order on the loop's thread."""

    def __init__(self) -> None:
        self._consumer: Any = None
        self._actions: deque[Callable[[], None]] = deque()
        self._queues: frozenset[str] = frozenset()

    def bind(self, consumer: Any) -> None:
        """A connection has been made, the first or another."""
        self._consumer = consumer
        self._wake()

    def unbind(self) -> None:
        """The connection is gone; actions wait for the next, and the queues stay as they were."""
        self._queues = self.queues()
        self._consumer = None

    def tell(self, events: Sequence[TaskEvent]) -> None:
        """What became of envelopes, as task events."""
        if events:
            self._run(lambda: self._tell(events))

    def listens(self) -> bool:
        """Whether anybody hears task events."""
        consumer = self._consumer
        return consumer is not None and _somebody_listens(consumer.event_dispatcher)

    def queues(self) -> frozenset[str]:
        """The inference queues that this worker serves now."""
        consumer = self._consumer
        if consumer is None or consumer.task_consumer is None:
            return self._queues
        return inference_queues(consumer)

    def serve(self, queue: str) -> None:
        """Begin to consume a queue."""
        self._run(lambda: self._consumer.add_task_queue(queue))

    def leave(self, queue: str) -> None:
        """Consume a queue no longer."""
        self._run(lambda: self._consumer.cancel_task_queue(queue))

    def pump(self) -> None:
        """Do what is waiting; only on the loop's thread, or after the loop has ended."""
        while self._actions and self._consumer is not None:
            self._actions.popleft()()

    def _run(self, action: Callable[[], None]) -> None:
        self._actions.append(action)
        self._wake()

    def _wake(self) -> None:
        consumer = self._consumer
        if consumer is not None and consumer.hub is not None:
            consumer.hub.call_soon(self.pump)

    def _tell(self, events: Sequence[TaskEvent]) -> None:
        dispatcher = self._consumer.event_dispatcher
        if _somebody_listens(dispatcher):
            for event in events:
                dispatcher.send(event.type, **event.fields)


def _somebody_listens(dispatcher: Any) -> bool:
    return bool(dispatcher and dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups))


class HubStep(bootsteps.StartStopStep):
    """Binds the hub to each connection, and drains it when the worker ends."""

    requires = (Tasks,)

    def start(self, c: Any) -> None:
        """A connection has been made, the first or another."""
        c.app.shunter_wire.bind(c)

    def stop(self, c: Any) -> None:
        """The connection is gone, or the worker ends."""
        wire, hub = c.app.shunter_wire, c.app.shunter_hub
        if c.controller.blueprint.state == bootsteps.RUN:
            wire.unbind()
            return
        hub.drain()
        # Whoever asks again does not want to wait; Celery itself would not listen.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: hub.drain())
        while not hub.drained.wait(PUMP_S):
            wire.pump()
        wire.pump()
        if c.event_dispatcher:
            c.event_dispatcher.flush()


def attach(app: Any, hub: Hub, wire: CeleryWire, revoker: Revoker) -> None:
    """Make an app's worker serve a hub."""
    # Celery warns of root because of pickle, which this worker does not accept.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    app.shunter_hub = hub
    app.shunter_wire = wire
    app.shunter_revoker = revoker
    replace_commands()
    count_in_heartbeats(hub.count_started, hub.taken)
    app.steps["consumer"].add(HubStep)
