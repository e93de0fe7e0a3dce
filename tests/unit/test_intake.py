"""What a hub makes of a bunch, and how many envelopes it has room for."""

from __future__ import annotations

from shunter.storage.envelope import encode, list_key, queue_name
from shunter.storage.job import Priority
from shunter.workers.intake import MAX_ENVELOPES, Intake, queues_of, read
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
    assert mail.rows() == {"infer.digits": 5}


def test_room_is_granted_in_envelopes_of_the_size_seen() -> None:
    intake = Intake([DIGITS], room=lambda key: 1024)
    assert intake.rooms() == {"infer.digits": 4}, "an unknown envelope may be full"
    small = bunch(packed(1), packed(1))
    intake.claim(read(small), queues_of(small))
    intake.claimed(small)
    assert intake.rooms() == {"infer.digits": MAX_ENVELOPES}


def test_what_is_being_claimed_takes_room_until_the_claim_is_over() -> None:
    intake = Intake([DIGITS], room=lambda key: 300)
    full = bunch(packed(256))
    intake.claim(read(full), queues_of(full))
    assert (intake.rooms()["infer.digits"], intake.claiming) == (1, True)
    intake.claimed(full)
    assert (intake.rooms()["infer.digits"], intake.claiming) == (2, False)


def test_a_full_model_is_granted_nothing_and_does_not_hold_up_another() -> None:
    intake = Intake([DIGITS, ("text", 1)], room=lambda key: 0 if key == DIGITS else 600)
    assert intake.rooms() == {"infer.digits": 0, "infer.text": 3}


def test_any_room_takes_a_job_that_is_larger() -> None:
    intake = Intake([DIGITS], room=lambda key: 1)
    assert intake.rooms() == {"infer.digits": 1}


def test_a_version_with_room_opens_the_queue_for_all_versions() -> None:
    intake = Intake([DIGITS, ("digits", 2)], room=lambda key: 0 if key == DIGITS else 512)
    assert intake.rooms() == {"infer.digits": 2}
