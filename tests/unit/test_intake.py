"""What a hub makes of a bunch, and how many envelopes it has room for."""

from __future__ import annotations

from collections.abc import Callable

from shunter.storage.envelope import encode, list_key, queue_name
from shunter.storage.job import Priority
from shunter.workers.holdings import ModelKey
from shunter.workers.intake import MAX_ENVELOPES, Intake, read
from shunter.workers.lists import Bunch
from tests.celery_messages import submission_message
from tests.jobs import claimed_job, envelope_of

DIGITS = ("digits", 1)


def bunch(*raws: bytes, model: str = "digits") -> Bunch:
    key = list_key(queue_name(model), Priority.STANDARD)
    return Bunch("shunter.bunch.1", tuple((key, raw) for raw in raws))


def packed(rows: int, *, model: str = "digits") -> bytes:
    return encode(envelope_of(claimed_job(model=model, rows=rows)))


def test_a_bunch_is_read_into_what_it_holds() -> None:
    mail = read(bunch(packed(3), submission_message("digits", [1, 2]), b"\x00 no message"))
    assert [envelope.rows for envelope in mail.envelopes] == [3]
    assert [sent.rows for sent in mail.submissions] == [[1, 2]]
    assert [misfit.raw for misfit in mail.misfits] == [b"\x00 no message"]
    assert mail.rows() == {("infer.digits", Priority.STANDARD): 5}


def one_class(held: int, credit: int = 1024) -> Callable[[ModelKey], tuple[int, dict[Priority, int]]]:
    return lambda key: (credit, {Priority.STANDARD: held})


def room_of(intake: Intake, queue: str = "infer.digits") -> int:
    return intake.rooms()[queue][Priority.STANDARD].room


def test_room_is_granted_in_envelopes_of_the_size_seen() -> None:
    intake = Intake([DIGITS], held=one_class(0))
    assert room_of(intake) == 4, "an unknown envelope may be full"
    rooms = []
    for count in (2, 8, 16, 32, 64, 128, 256, 512):
        small = bunch(*[packed(1)] * count)
        intake.claim(read(small))
        intake.claimed(small)
        rooms.append(room_of(intake))
    assert rooms == [8, 16, 32, 64, 128, 256, 512, MAX_ENVELOPES], "full envelopes may follow on small ones"


def test_the_first_bulk_envelopes_are_expected_to_be_large() -> None:
    rooms = Intake([DIGITS], lambda _: (2048, {})).rooms()["infer.digits"]
    assert (rooms[Priority.STANDARD].room, rooms[Priority.BULK].room) == (8, 1)


def test_what_is_being_claimed_takes_room_until_the_claim_is_over() -> None:
    intake = Intake([DIGITS], held=one_class(0, credit=512))
    full = bunch(packed(256))
    intake.claim(read(full))
    assert (room_of(intake), intake.claiming) == (1, True)
    intake.claimed(full)
    assert (room_of(intake), intake.claiming) == (2, False)


def test_a_full_model_is_granted_nothing_and_does_not_hold_up_another() -> None:
    intake = Intake([DIGITS, ("text", 1)], held=lambda key: (512, {Priority.STANDARD: 512 * (key == DIGITS)}))
    assert (room_of(intake), room_of(intake, "infer.text")) == (0, 2)


def test_a_version_with_room_opens_the_queue_for_all_versions() -> None:
    intake = Intake(
        [DIGITS, ("digits", 2)], held=lambda key: (512, {Priority.STANDARD: 512 * (key == DIGITS)})
    )
    assert room_of(intake) == 2
