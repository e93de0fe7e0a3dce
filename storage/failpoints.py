"""Points at which a test breaks a running process on purpose, armed only by variables of the environment.

    SHUNTER_FAILPOINTS="claim.committed=crash, settle.before=delay:0.5@3" SHUNTER_ALLOW_FAILPOINTS=yes

The second variable is a consent: without it whatever reads the environment refuses to begin, so that no
production process is armed by a variable that was left behind.

Actions are `crash` (SIGKILL to itself), `hang` (for ever), `error` (the outage that the code there must
survive), `drop` (the reply of the commit just made is lost) and `delay:SECONDS`; `@N` means only the N-th
time, otherwise every time.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from shunter.storage.errors import (
    DatabaseUnavailable,
    ObjectStoreUnavailable,
    QueueUnavailable,
    SettingsError,
    Unavailable,
)

log = logging.getLogger(__name__)

VARIABLE = "SHUNTER_FAILPOINTS"
CONSENT = "SHUNTER_ALLOW_FAILPOINTS"

JOURNEY: Mapping[str, type[Unavailable]] = {
    "submit.stored": DatabaseUnavailable,  # committed, the submitter does not know
    "submit.committed": QueueUnavailable,  # stored, not published
    "submit.pushed": QueueUnavailable,  # published, perhaps not on disk, and the submitter does not know
    "fetch.popped": QueueUnavailable,  # in a bunch, the hub has not seen it
    "claim.before": DatabaseUnavailable,
    "claim.committed": DatabaseUnavailable,  # claimed, the hub does not know
    "ack.before": QueueUnavailable,  # claimed, the bunch still stands
    "ack.sent": QueueUnavailable,
    "settle.before": DatabaseUnavailable,
    "settle.committed": DatabaseUnavailable,  # settled, the hub does not know
    "relay.committed": QueueUnavailable,  # enqueued anew, not pushed
    "rescue.committed": QueueUnavailable,  # put back, not pushed
}
"""A job's way through submitter and hub."""

POINTS: Mapping[str, type[Unavailable]] = {
    **JOURNEY,
    "engine.stored": ObjectStoreUnavailable,  # in the engine: the output is stored, the hub does not know
    "plan.committed": QueueUnavailable,  # a scoring's chunks are stored, not pushed
    "schedule.decided": DatabaseUnavailable,  # windows are stored, their scorings are not
    "schedule.begun": DatabaseUnavailable,  # a scoring is stored with its window, the hub does not know
    "dataset.published": DatabaseUnavailable,  # to be seen, and not yet said to be
    "report.stored": DatabaseUnavailable,  # a report's page is there, and nobody knows
    "retention.locked": DatabaseUnavailable,  # nobody else can read jobs, the week is still there
    "sweep.found": DatabaseUnavailable,  # unnamed objects are known, and still there
}
"""Every point, and what `error` raises there."""

COMMITS = frozenset(
    {"submit.stored", "claim.committed", "settle.committed", "relay.committed", "rescue.committed"}
)
"""Points just behind a commit."""

ACTIONS = ("crash", "hang", "error", "drop", "delay")


@dataclass(slots=True)
class _Armed:
    action: str
    seconds: float = 0.0
    at: int | None = None
    hits: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def due(self) -> bool:
        with self.lock:
            self.hits += 1
            return self.at is None or self.hits == self.at


_armed: dict[str, _Armed] = {}


def asked_for(environment: Mapping[str, str]) -> str:
    """What these variables ask to arm; SettingsError if they do not say that this is meant."""
    wanted = environment.get(VARIABLE, "").strip()
    if wanted and environment.get(CONSENT) != "yes":
        raise SettingsError(
            f"{VARIABLE} is {wanted!r}, which makes processes fail on purpose. Unset it; only a fleet "
            f"that is there to be broken sets {CONSENT}=yes beside it",
            field=VARIABLE,
        )
    return wanted


def arm(text: str | None = None) -> None:
    """Arm what the text says, the environment's by default, and nothing else; SettingsError."""
    wanted = asked_for(os.environ) if text is None else text
    armed = dict(_parse(word.strip()) for word in wanted.split(",") if word.strip())
    _armed.clear()
    _armed.update(armed)
    if armed:
        log.warning("THIS PROCESS WILL FAIL ON PURPOSE: %s is %s", VARIABLE, wanted)


def hit(point: str) -> None:
    """The process is at this point."""
    armed = _armed.get(point)
    if armed is not None and armed.due():
        _act(point, armed)


def _act(point: str, armed: _Armed) -> None:
    log.warning("failpoint %s: %s", point, armed.action)
    if armed.action == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif armed.action == "hang":
        threading.Event().wait()
    elif armed.action == "error":
        raise POINTS[point](f"failpoint {point}")
    elif armed.action == "drop":
        raise DatabaseUnavailable(f"failpoint {point}: the reply to the commit is lost")
    else:
        time.sleep(armed.seconds)


def _parse(word: str) -> tuple[str, _Armed]:
    point, _, rest = word.partition("=")
    action, _, at = rest.partition("@")
    kind, _, seconds = action.partition(":")
    try:
        armed = _Armed(kind, float(seconds or 0), int(at) if at else None)
    except ValueError as error:
        raise _refusal(word, str(error)) from error
    if point not in POINTS:
        raise _refusal(word, f"there is no point {point!r}, but {', '.join(POINTS)}")
    if kind not in ACTIONS or (kind == "delay") != bool(seconds):
        raise _refusal(word, f"{action!r} is no action: crash, hang, error, drop or delay:SECONDS")
    if kind == "drop" and point not in COMMITS:
        raise _refusal(word, f"no commit has just been made at {point}, but at {', '.join(sorted(COMMITS))}")
    if (armed.at is not None and armed.at < 1) or not 0 <= armed.seconds < threading.TIMEOUT_MAX:
        raise _refusal(word, "a number is out of range")
    return point, armed


def _refusal(word: str, reason: str) -> SettingsError:
    return SettingsError(f"{VARIABLE} holds {word!r}: {reason}", field=VARIABLE)
