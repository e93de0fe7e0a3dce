"""One strike: a worker is armed to kill itself at one boundary, and fed until it does; others go on."""

from __future__ import annotations

import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from uuid import UUID, uuid4

from shunter.storage import failpoints
from shunter.storage.worker_registry import NewWorker
from tests.faults.arena import MODEL, Arena, Hub, Tally, pass_time
from tests.faults.strikes_elsewhere import ELSEWHERE

STOPPED = "stopped, pushed to, killed"
"""Not a failpoint: an idle hub is SIGSTOPped, envelopes are pushed, and it is SIGKILLed."""

BOUNDARIES: Sequence[str] = (*failpoints.JOURNEY, STOPPED)
"""Of a job's way."""

EVERYWHERE: Sequence[str] = (*BOUNDARIES, *ELSEWHERE)

FEED_EVERY_S = 0.1
STRIKE_WITHIN_S = 30.0

SUBMITTER = """
import sys
from shunter import Client
Client().submit({model!r}, [{number}], idempotency_key={key!r})
"""


@dataclass(frozen=True, slots=True)
class Strike:
    """One kill: where, when (Unix time), and the jobs that were under way."""

    boundary: str
    at: float
    jobs: tuple[UUID, ...]
    affected: tuple[UUID, ...] = ()
    """Those that were to run again: nobody ran them any more, or not yet."""


RAN_AGAIN = """
SELECT extract(epoch FROM max(first))::float8 FROM (
    SELECT min(at) AS first FROM moves
    WHERE id = ANY(%s::uuid[]) AND target <> 'queued' AND at > to_timestamp(%s) GROUP BY id
) AS again
"""


def strike(arena: Arena, boundary: str, rng: random.Random) -> Strike:
    """Kill a process at this boundary; another worker must be there to finish."""
    if boundary in ELSEWHERE:
        blow = ELSEWHERE[boundary](arena, boundary)
        return Strike(boundary, blow.at, (), tuple(blow.affected))
    return replace(_strike(arena, boundary, rng), affected=tuple(arena.not_running()))


def _strike(arena: Arena, boundary: str, rng: random.Random) -> Strike:
    if boundary == STOPPED:
        return _kill_a_stopped_hub(arena)
    if boundary in BY_SUBMITTER:
        return _kill_a_submitter(arena, boundary)
    hits = rng.randint(1, 3) if boundary in FED_BY_SUBMITS else 1
    hub = arena.start_hub(f"{boundary}=crash@{hits}")
    feed = FEEDERS.get(boundary, feed_five)
    jobs = tuple(_feed_until_dead(arena, hub, feed))
    return Strike(boundary, time.time(), jobs)


def _feed_until_dead(arena: Arena, hub: Hub, feed: Callable[[Arena], list[UUID]]) -> Iterator[UUID]:
    deadline = time.monotonic() + STRIKE_WITHIN_S
    while not hub.dead:
        assert time.monotonic() < deadline, "the armed worker never came to its failpoint"
        yield from feed(arena)
        pass_time(FEED_EVERY_S)
    assert hub.process.returncode == -signal.SIGKILL


def feed_five(arena: Arena) -> list[UUID]:
    """Jobs for whoever takes them."""
    return arena.submit(5)


def _feed_returning(arena: Arena) -> list[UUID]:
    """A job whose wait for another run is over: the relay must give it an envelope."""
    ids = arena.submit(1, publish=False)
    arena.ask("UPDATE jobs SET not_before = now() WHERE id = ANY(%s::uuid[])", (ids,))
    return ids


def _feed_orphaned(arena: Arena) -> list[UUID]:
    """A job that a worker claimed which has ended since: the rescuer must put it back."""
    ids = arena.submit(1, publish=False)
    ghost = NewWorker(incarnation=uuid4(), name="ghost", host="nowhere", pid=0, device="cpu", serves=())
    arena.registry.register(ghost)
    arena.repository.claim({id: uuid4() for id in ids}, worker=ghost.incarnation, served=[(MODEL, 1)])
    arena.registry.end([ghost.incarnation])
    return ids


FEEDERS: Mapping[str, Callable[[Arena], list[UUID]]] = {
    "relay.committed": _feed_returning,
    "rescue.committed": _feed_orphaned,
}

BY_SUBMITTER = frozenset({"submit.stored", "submit.committed", "submit.pushed"})
"""Points that a submitter comes to, and no worker."""

FED_BY_SUBMITS = failpoints.JOURNEY.keys() - FEEDERS.keys() - BY_SUBMITTER


def _kill_a_submitter(arena: Arena, boundary: str) -> Strike:
    """The caller tries again with its key, and is told of the job that was committed."""
    number, key = len(arena.sent), uuid4().hex
    code = SUBMITTER.format(model=MODEL, number=number, key=key)
    process = arena.spawn(["-c", code], f"{boundary}=crash")
    assert process.wait(STRIKE_WITHIN_S) == -signal.SIGKILL
    at = time.time()
    again = UUID(arena.client.submit(MODEL, [number], idempotency_key=key).id)
    arena.sent[again] = number
    return Strike(boundary, at, (again,))


def _kill_a_stopped_hub(arena: Arena) -> Strike:
    hub = arena.start_hub()
    hub.signal(signal.SIGSTOP)
    jobs = tuple(arena.submit(5))
    hub.kill()
    return Strike(STOPPED, time.time(), jobs)


@dataclass(frozen=True, slots=True)
class Line:
    """What was found for one boundary."""

    boundary: str
    tries: int
    tally: Tally
    affected: int
    """Jobs that were to run again."""
    median_s: float
    """From the kill until they all did."""
    worst_s: float


def report(arena: Arena, strikes: Sequence[Strike]) -> list[Line]:
    """One line for each boundary, in the order of a job's way."""
    by_boundary: dict[str, list[Strike]] = defaultdict(list)
    for each in strikes:
        by_boundary[each.boundary].append(each)
    return [
        _line(arena, boundary, by_boundary[boundary]) for boundary in EVERYWHERE if boundary in by_boundary
    ]


def _line(arena: Arena, boundary: str, strikes: Sequence[Strike]) -> Line:
    took = [_ran_again_after(arena, each) for each in strikes]
    tally = arena.tally([id for each in strikes for id in each.jobs])
    affected = sum(len(each.affected) for each in strikes)
    return Line(boundary, len(strikes), tally, affected, median(took), max(took))


def _ran_again_after(arena: Arena, each: Strike) -> float:
    again = arena.ask(RAN_AGAIN, (list(each.affected), each.at))[0][0]
    return 0.0 if again is None else max(0.0, float(again) - each.at)


def spread(tries: int, rng: random.Random, among: Sequence[str] = BOUNDARIES) -> list[str]:
    """So many boundaries, each as often as the others, in an order of chance."""
    order = rng.sample(among, len(among))
    boundaries = [order[number % len(order)] for number in range(tries)]
    rng.shuffle(boundaries)
    return boundaries
