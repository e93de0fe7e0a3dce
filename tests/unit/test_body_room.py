"""Bodies under way together have a limit; what does not fit is to be tried again."""

from __future__ import annotations

import pytest

from shunter.producers.api.body_room import BodyRoom
from shunter.storage.errors import Overloaded, Unavailable


def test_what_fits_is_taken_and_freed_at_the_end() -> None:
    room = BodyRoom(100)
    with room.hold() as take:
        take(40)
        take(60)
        assert room.taken == 100
    assert room.taken == 0


def test_what_does_not_fit_is_to_be_tried_again_and_takes_nothing() -> None:
    room = BodyRoom(100)
    with room.hold() as first:
        first(80)
        with room.hold() as second:
            second(10)
            with pytest.raises(Overloaded, match="try again") as refusal:
                second(20)
            assert room.taken == 90
        with room.hold() as third:
            third(20)
    assert room.taken == 0
    assert isinstance(refusal.value, Unavailable)
    assert refusal.value.http_status == 503
