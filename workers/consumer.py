"""Where Celery and the hub meet: envelopes come in, acks and events go out, all on Celery's event loop."""

from __future__ import annotations

import logging
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from celery import bootsteps
from celery.platforms import SecurityWarning
from celery.worker.consumer.tasks import Tasks

from shunter.storage.envelope import decode_body
from shunter.storage.errors import EnvelopeError
from shunter.workers.claimer import Delivery, Misfit
from shunter.workers.envelope_log import TaskEvent
from shunter.workers.hub import Hub
from shunter.workers.transport import ServingOrder, set_paused

log = logging.getLogger(__name__)

PUMP_S = 0.02
"""How often a draining worker, whose loop has ended, does what the hub asks."""


class CeleryWire:
    """The hub's wire to Celery: actions from any thread, done in order on the loop's thread."""

    def __init__(self) -> None:
        self._consumer: Any = None
        self._actions: deque[Callable[[], None]] = deque()
        self._paused: set[str] = set()

    def bind(self, consumer: Any) -> None:
        """A connection has been made; the new consumer pops from every queue."""
        self._paused.clear()
        self._consumer = consumer
        self._wake()

    def unbind(self) -> None:
        """The connection is gone; actions wait for the next."""
        self._consumer = None

    def run(self, action: Callable[[], None]) -> None:
        """Do something on the loop's thread."""
        self._actions.append(action)
        self._wake()

    def tell(self, events: Sequence[TaskEvent]) -> None:
        """Send task events, if somebody listens."""
        consumer = self._consumer
        if events and consumer is not None and _somebody_listens(consumer.event_dispatcher):
            self.run(lambda: self._send(events))

    def pause(self, queue: str) -> None:
        """Pop no more from this queue."""
        if queue not in self._paused:
            self._paused.add(queue)
            self.run(lambda: set_paused(self._consumer.task_consumer.channel, queue, paused=True))

    def resume(self, queue: str) -> None:
        """Pop from this queue again."""
        if queue in self._paused:
            self._paused.discard(queue)
            self.run(lambda: set_paused(self._consumer.task_consumer.channel, queue, paused=False))

    def pump(self) -> None:
        """Do what is waiting; only on the loop's thread, or after the loop has ended."""
        while self._actions and self._consumer is not None:
            self._actions.popleft()()

    def _wake(self) -> None:
        consumer = self._consumer
        if consumer is not None and consumer.hub is not None:
            consumer.hub.call_soon(self.pump)

    def _send(self, events: Sequence[TaskEvent]) -> None:
        dispatcher = self._consumer.event_dispatcher
        for event in events:
            dispatcher.send(event.type, **event.fields)


def _somebody_listens(dispatcher: Any) -> bool:
    return bool(dispatcher and dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups))


class HubStep(bootsteps.StartStopStep):
    """Binds the hub to each connection, and drains it when the worker ends."""

    requires = (Tasks,)

    def start(self, c: Any) -> None:
        """A connection has been made, the first or another."""
        c.task_consumer.channel.priority_steps = ServingOrder()
        c.app.shunter_wire.bind(c)

    def stop(self, c: Any) -> None:
        """The connection is gone, or the worker ends."""
        wire, hub = c.app.shunter_wire, c.app.shunter_hub
        if c.controller.blueprint.state == bootsteps.RUN:
            wire.unbind()
            return
        hub.drain()
        while not hub.drained.wait(PUMP_S):
            wire.pump()
        wire.pump()
        if c.event_dispatcher:
            c.event_dispatcher.flush()


def attach(app: Any, hub: Hub, wire: CeleryWire) -> None:
    """Make an app's worker serve a hub."""
    # Celery warns of root because of pickle, which this worker does not accept.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    app.shunter_hub = hub
    app.shunter_wire = wire
    app.steps["consumer"].add(HubStep)


def strategy(task: Any, app: Any, consumer: Any) -> Callable[..., None]:
    """Celery asks once per connection how messages of our task are handled: the hub takes them."""
    hub: Hub = app.shunter_hub

    def handle(message: Any, *_: Any) -> None:
        def take_out() -> None:
            message.ack_log_error(log, consumer.connection_errors)

        def put_back() -> None:
            message.reject_log_error(log, consumer.connection_errors, requeue=True)

        try:
            envelope = decode_body(message.body, task_id=str(message.headers.get("id")))
        except EnvelopeError as error:
            raw = message.body if isinstance(message.body, bytes) else str(message.body).encode()
            queue = str((message.delivery_info or {}).get("routing_key", ""))
            hub.deliver(Misfit(queue, raw, error.message, take_out))
        else:
            hub.deliver(Delivery(envelope, take_out, put_back))

    return handle
