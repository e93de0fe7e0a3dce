"""Which workers there are, and whether they beat."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg2
import pytest

from shunter.storage.database import Database
from shunter.storage.software import VERSION
from shunter.storage.worker_registry import FORGET_AFTER_S, LEASE_S, AtWork, Serving, WorkerRegistry
from tests.stored_jobs import age_workers, new_worker


@pytest.fixture
def registry(database: Database) -> WorkerRegistry:
    return WorkerRegistry(database)


def test_a_new_worker_is_present_and_live(registry: WorkerRegistry) -> None:
    serves = (Serving("digits", 2), Serving("other", 1, "failed", "no 'weights'"))
    new = new_worker(name="gpu0@hüt", device="cuda:0", serves=serves)
    registry.register(new)
    (worker,) = registry.present()
    assert (worker.incarnation, worker.name, worker.host) == (new.incarnation, "gpu0@hüt", "here")
    assert (worker.pid, worker.device, worker.serves) == (1, "cuda:0", serves)
    assert (worker.state, worker.stats, worker.live) == ("ready", {}, True)
    assert abs(worker.started_at - datetime.now(UTC)) < timedelta(seconds=30)
    assert registry.beats() == {new.incarnation: 0}


def test_an_incarnation_registers_once(registry: WorkerRegistry) -> None:
    registry.register(worker := new_worker())
    with pytest.raises(psycopg2.errors.UniqueViolation):
        registry.register(worker)


def test_a_beat_tells_what_the_worker_does(registry: WorkerRegistry) -> None:
    registry.register(worker := new_worker())
    serves = (Serving("digits", 1, "ready"), Serving("digits", 2, "failed", "no 'weights'"))
    for _ in range(3):
        assert registry.beat(worker.incarnation, state="draining", serves=serves, stats={"rows": 7})
    (present,) = registry.present()
    assert (present.state, present.serves, present.stats) == ("draining", serves, {"rows": 7})
    assert registry.beats() == {worker.incarnation: 3}
    assert present.serving("digits", 2) == serves[1]
    assert present.serving("digits", 3) is None


def test_a_worker_tells_its_pool_and_its_memory(registry: WorkerRegistry) -> None:
    registry.register(worker := new_worker(pool="text", memory_budget_bytes=20 * 2**30))
    (present,) = registry.present()
    told = (present.pool, present.memory_bytes, present.memory_budget_bytes)
    assert told == ("text", None, 20 * 2**30)
    serves = (Serving("digits", 1, "waiting_for_memory", loads=2, memory_bytes=5 * 2**30),)
    registry.beat(worker.incarnation, state="ready", serves=serves, stats={}, memory_bytes=7 * 2**30)
    (present,) = registry.present()
    assert (present.serves, present.memory_bytes) == (serves, 7 * 2**30)


def test_what_a_newer_worker_adds_is_passed_over(database: Database, registry: WorkerRegistry) -> None:
    registry.register(new_worker())
    newer = '[{"model": "digits", "version": 1, "state": "ready", "moon": "full"}]'
    with database.transaction() as cursor:
        cursor.execute("UPDATE workers SET serves = %s::jsonb", (newer,))
    assert registry.present()[0].serves == (Serving("digits", 1, "ready"),)


def test_an_error_with_a_nul_does_not_stop_the_beat(registry: WorkerRegistry) -> None:
    registry.register(worker := new_worker())
    serves = [Serving("digits", 1, "failed", "bad \x00 byte, \ud800")]
    assert registry.beat(worker.incarnation, state="ready", serves=serves, stats={})
    (present,) = registry.present()
    assert present.serves[0].error == "bad \\x00 byte, ?"


def test_a_worker_tells_what_it_is_at(registry: WorkerRegistry) -> None:
    registry.register(worker := new_worker())
    serves = (Serving("digits", 1, "ready", at_work=AtWork("forward", rows=32, jobs=4, for_s=0.5)),)
    registry.beat(worker.incarnation, state="ready", serves=serves, stats={})
    assert registry.present()[0].serves == serves


def test_a_worker_tells_its_software_and_how_far_its_clock_is_off(database: Database) -> None:
    registry = WorkerRegistry(database, clock=lambda: time.time() + 3600)
    registry.register(worker := new_worker())
    (present,) = registry.present()
    assert (present.software, present.clock_ahead_s) == (VERSION, None)
    registry.beat(worker.incarnation, state="ready", serves=[], stats={})
    ahead_s = registry.present()[0].clock_ahead_s
    assert ahead_s is not None
    assert 3000 < ahead_s < 4200


def test_a_worker_that_nobody_knows_does_not_beat(registry: WorkerRegistry) -> None:
    assert not registry.beat(uuid4(), state="ready", serves=[], stats={})
    assert registry.beats() == {}


def test_an_ended_worker_beats_no_more(registry: WorkerRegistry) -> None:
    ended, other = new_worker(), new_worker()
    registry.register(ended)
    registry.register(other)
    assert registry.end([ended.incarnation, uuid4()]) == [ended.incarnation]
    assert registry.end([ended.incarnation]) == []
    assert not registry.beat(ended.incarnation, state="ready", serves=[], stats={})
    assert registry.beats().keys() == {other.incarnation}
    assert [worker.incarnation for worker in registry.present()] == [other.incarnation]


def test_no_workers_end_without_harm(registry: WorkerRegistry) -> None:
    assert registry.end([]) == []


def test_a_silent_worker_is_present_but_not_live_until_it_beats(
    database: Database, registry: WorkerRegistry
) -> None:
    registry.register(worker := new_worker())
    age_workers(database, LEASE_S)
    (silent,) = registry.present()
    assert not silent.live
    assert silent.silent_s >= LEASE_S
    assert registry.beat(worker.incarnation, state="ready", serves=worker.serves, stats={})
    assert registry.present()[0].live


def test_workers_are_listed_by_name_then_age(database: Database, registry: WorkerRegistry) -> None:
    registry.register(older := new_worker(name="b"))
    age_workers(database, 1)
    registry.register(younger := new_worker(name="b"))
    registry.register(first := new_worker(name="a"))
    listed = [worker.incarnation for worker in registry.present()]
    assert listed == [first.incarnation, older.incarnation, younger.incarnation]


def test_workers_that_ended_long_ago_are_forgotten(database: Database, registry: WorkerRegistry) -> None:
    long_ended, silent, just_ended = new_worker(), new_worker(), new_worker()
    for worker in (long_ended, silent):
        registry.register(worker)
    registry.end([long_ended.incarnation])
    age_workers(database, FORGET_AFTER_S + 1)
    registry.register(just_ended)
    registry.end([just_ended.incarnation])
    registry.forget()
    with database.transaction() as cursor:
        cursor.execute("SELECT incarnation FROM workers")
        kept = {row[0] for row in cursor.fetchall()}
    assert kept == {silent.incarnation, just_ended.incarnation}
