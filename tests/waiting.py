"""Waiting for what another process will do; the only place of the tests that sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")

POLL_S = 0.01


def wait_until(predicate: Callable[[], Answer], timeout_s: float = 10.0) -> Answer:
    """The predicate's first true answer; fails when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (answer := predicate()):
        assert time.monotonic() < deadline, f"still {answer!r} after {timeout_s} s"
        time.sleep(POLL_S)
    return answer
