"""How many envelopes a hub takes: it claims what its engines have room for, and leaves the rest in Redis."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence

from shunter.storage.envelope import queue_name
from shunter.workers.claimer import Delivery
from shunter.workers.holdings import ModelKey
from shunter.workers.wire import Wire

Room = Callable[[ModelKey], int]
"""How many more rows of a model version the worker may hold; zero or less is none."""


class Intake:
    """Deliveries that wait for room; a queue with waiting ones is popped no more."""

    def __init__(self, wire: Wire, models: Collection[ModelKey], room: Room) -> None:
        self._wire = wire
        self._models = models
        self._room = room
        self._parked: dict[str, deque[Delivery]] = {}
        self._claiming: Counter[str] = Counter()

    @property
    def claiming(self) -> bool:
        """Whether a claim is under way."""
        return any(self._claiming.values())

    def park(self, delivery: Delivery) -> None:
        """A delivery has come."""
        self._parked.setdefault(queue_name(delivery.envelope.model), deque()).append(delivery)

    def take(self) -> list[Delivery]:
        """The deliveries there is room for, to be claimed now; queues are paused and resumed to match."""
        taken = []
        for queue, parked in self._parked.items():
            while parked and self._has_room(queue):
                delivery = parked.popleft()
                self._claiming[queue] += _rows(delivery)
                taken.append(delivery)
            (self._wire.pause if parked else self._wire.resume)(queue)
        return taken

    def claimed(self, deliveries: Iterable[Delivery]) -> None:
        """The claim of these is no longer under way."""
        for delivery in deliveries:
            self._claiming[queue_name(delivery.envelope.model)] -= _rows(delivery)

    def refuse(self, deliveries: Sequence[Delivery] = ()) -> None:
        """Give these and everything parked back to Redis, and pop no more until the next `take`."""
        waiting = [delivery for parked in self._parked.values() for delivery in parked]
        for delivery in (*deliveries, *waiting):
            self._wire.run(delivery.requeue)
        for queue, parked in self._parked.items():
            parked.clear()
            self._wire.pause(queue)

    def _has_room(self, queue: str) -> bool:
        keys = [key for key in self._models if queue_name(key[0]) == queue]
        # A queue of a model that is served no longer is emptied: its jobs say that they wait for a version.
        return not keys or max(self._room(key) for key in keys) > self._claiming[queue]


def _rows(delivery: Delivery) -> int:
    return max(delivery.envelope.rows, 1)
