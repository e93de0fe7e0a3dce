"""How many envelopes a hub takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shunter.storage.envelope import Envelope
from shunter.workers.claimer import Delivery
from shunter.workers.envelope_log import TaskEvent
from shunter.workers.intake import Intake
from tests.jobs import claimed_job, envelope_of


class RecordingWire:
    """A wire that does everything at once, and remembers which queues are paused."""

    def __init__(self) -> None:
        self.paused: set[str] = set()
        self.events: list[TaskEvent] = []

    def run(self, action: Callable[[], None]) -> None:
        action()

    def tell(self, events: Sequence[TaskEvent]) -> None:
        self.events.extend(events)

    def pause(self, queue: str) -> None:
        self.paused.add(queue)

    def resume(self, queue: str) -> None:
        self.paused.discard(queue)


class Redis:
    """Counts what leaves Redis and what goes back."""

    def __init__(self) -> None:
        self.acked: list[Envelope] = []
        self.requeued: list[Envelope] = []

    def delivery(self, *, model: str = "digits", rows: int = 256) -> Delivery:
        envelope = envelope_of(claimed_job(model=model, rows=rows))
        return Delivery(envelope, lambda: self.acked.append(envelope), lambda: self.requeued.append(envelope))


def test_envelopes_are_taken_while_there_is_room() -> None:
    wire, redis = RecordingWire(), Redis()
    intake = Intake(wire, [("digits", 1)], room=lambda key: 512)
    for _ in range(3):
        intake.park(redis.delivery())
    assert len(intake.take()) == 2
    assert wire.paused == {"infer.digits"}


def test_a_claim_under_way_takes_room_until_it_ends() -> None:
    wire, redis = RecordingWire(), Redis()
    intake = Intake(wire, [("digits", 1)], room=lambda key: 256)
    for _ in range(2):
        intake.park(redis.delivery())
    taken = intake.take()
    assert (len(taken), intake.claiming, intake.take()) == (1, True, [])
    intake.claimed(taken)
    assert len(intake.take()) == 1
    assert wire.paused == set()


def test_a_full_model_does_not_hold_up_another() -> None:
    wire, redis = RecordingWire(), Redis()
    intake = Intake(wire, [("digits", 1), ("text", 1)], room=lambda key: 0 if key[0] == "digits" else 99)
    intake.park(redis.delivery(model="digits"))
    intake.park(redis.delivery(model="text"))
    assert [delivery.envelope.model for delivery in intake.take()] == ["text"]
    assert wire.paused == {"infer.digits"}


def test_a_job_larger_than_the_room_is_taken_when_there_is_any() -> None:
    intake = Intake(RecordingWire(), [("digits", 1)], room=lambda key: 1)
    intake.park(Redis().delivery(rows=10_000))
    assert len(intake.take()) == 1


def test_envelopes_of_a_model_that_is_not_served_are_taken_out() -> None:
    intake = Intake(RecordingWire(), [("digits", 1)], room=lambda key: 0)
    intake.park(Redis().delivery(model="gone"))
    assert len(intake.take()) == 1


def test_refusing_gives_everything_back_and_pauses() -> None:
    wire, redis = RecordingWire(), Redis()
    intake = Intake(wire, [("digits", 1)], room=lambda key: 256)
    for _ in range(3):
        intake.park(redis.delivery())
    taken = intake.take()
    intake.claimed(taken)
    intake.refuse(taken)
    assert (len(redis.requeued), wire.paused, intake.claiming) == (3, {"infer.digits"}, False)
