"""Large inputs are read ahead of their turn: several at once, and bounded in bytes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from shunter.storage.errors import ObjectNotFound
from shunter.workers.inputs_ahead import InputsAhead
from tests.engine_process import claim_of, job_of

PATIENCE_S = 10.0


class GatedStore:
    """Objects of ten bytes that arrive when the test lets them; `begun` are the keys asked for."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun: list[str] = []
        self._changed = threading.Condition()

    def get(self, key: str) -> bytes:
        with self._changed:
            self.begun.append(key)
            self._changed.notify_all()
        assert self.gate.wait(PATIENCE_S)
        if key == "missing":
            raise ObjectNotFound(key)
        return key.ljust(10).encode()

    def wait_until_begun(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= count, PATIENCE_S), self.begun


def large(key: str) -> Any:
    return job_of([1], input_key=key)


def ahead(store: GatedStore, **limits: int) -> InputsAhead:
    return InputsAhead(store, **limits)  # type: ignore[arg-type]  # only `get` is used


def test_inputs_are_read_at_once_and_each_job_gets_its_own() -> None:
    store = GatedStore()
    inputs = ahead(store, at_once=3)
    jobs = [large(key) for key in ("a", "b", "c")]
    for job in jobs:
        inputs.expect(job)
    store.wait_until_begun(3)
    store.gate.set()
    assert [inputs.take(job).strip() for job in reversed(jobs)] == [b"c", b"b", b"a"]
    assert len(store.begun) == 3


def test_what_is_read_and_not_taken_is_bounded_in_bytes() -> None:
    store = GatedStore()
    store.gate.set()
    inputs = ahead(store, at_once=1, ahead_bytes=15)
    jobs = [large(str(number)) for number in range(4)]
    for job in jobs:
        inputs.expect(job)
    store.wait_until_begun(2)
    # The last one is read in its taker's thread: two are held already, and two are all that fit.
    assert inputs.take(jobs[3]).strip() == b"3"
    assert store.begun == ["0", "1", "3"]
    inputs.take(jobs[0])
    store.wait_until_begun(4)
    assert store.begun[-1] == "2"
    inputs.take(jobs[1])
    inputs.take(jobs[2])


def test_forgotten_inputs_make_room_and_are_not_read() -> None:
    store = GatedStore()
    inputs = ahead(store, at_once=1)
    reading, waiting, wanted = (large(key) for key in ("reading", "waiting", "wanted"))
    for job in (reading, waiting, wanted):
        inputs.expect(job)
    store.wait_until_begun(1)
    inputs.forget(claim_of(waiting))
    inputs.forget(claim_of(reading))
    store.gate.set()
    assert inputs.take(wanted).strip() == b"wanted"
    last = large("last")
    inputs.expect(last)
    store.wait_until_begun(3)
    assert store.begun == ["reading", "wanted", "last"]
    inputs.take(last)


def test_an_input_that_is_gone_is_told_to_its_job_alone() -> None:
    store = GatedStore()
    store.gate.set()
    inputs = ahead(store)
    missing, there = large("missing"), large("there")
    inputs.expect(missing)
    inputs.expect(there)
    with pytest.raises(ObjectNotFound):
        inputs.take(missing)
    assert inputs.take(there).strip() == b"there"


def test_an_inline_input_is_never_read() -> None:
    store = GatedStore()
    inputs = ahead(store)
    job = job_of([1], block=b"inline")
    inputs.expect(job)
    assert inputs.take(job) == b"inline"
    assert store.begun == []
