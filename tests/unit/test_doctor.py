"""What the doctor says of each ailment, from facts alone."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from shunter.doctor.examination import examine, healthy
from shunter.doctor.facts import Facts, FleetFacts, PostgresFacts, RedisFacts, Refusal
from shunter.doctor.findings import Level
from shunter.storage.errors import ModelConfigError
from shunter.storage.model_config import ModelConfig
from shunter.storage.model_registry import ModelVersion, RegisteredModel, Scan
from shunter.storage.queue_depth import QueuedVersion
from shunter.storage.software import VERSION
from shunter.storage.worker_registry import AtWork, Serving, SilentEnd, Worker

POSTGRES = PostgresFacts(
    version="16.4", read_only=False, revision="0008", cannot_write=None, clock_ahead_s=0.0
)
REDIS = RedisFacts(
    name="Valkey",
    version="8.1.0",
    keeps_log=True,
    keeps_snapshots=False,
    policy="noeviction",
    used_bytes=2**20,
    max_bytes=0,
    cannot_write=None,
    clock_ahead_s=0.0,
)
DIGITS = RegisteredModel("digits", 1, ModelConfig(), "abc")


def worker(**changes: Any) -> Worker:
    fields: dict[str, Any] = {
        "incarnation": uuid4(),
        "name": "gpu0@here",
        "host": "here",
        "pid": 7,
        "device": "cuda:0",
        "state": "ready",
        "started_at": datetime.now(UTC),
        "silent_s": 0.5,
        "serves": (Serving("digits", 1, "ready"),),
        "software": VERSION,
        "clock_ahead_s": 0.01,
    }
    return Worker(**{**fields, **changes})


FLEET = FleetFacts(workers=(worker(),), silent_ends=(), models=(DIGITS,), queued=(), quarantined=0)
WELL = Facts(
    software=VERSION,
    host="here",
    newest_revision="0008",
    postgres=POSTGRES,
    redis=REDIS,
    envelopes=0,
    object_store="file:///objects",
    fleet=FLEET,
    models=None,
)
REFUSAL = Refusal("nothing answers on port 1")


def postgres(**changes: Any) -> Facts:
    return replace(WELL, postgres=replace(POSTGRES, **changes))


def redis(**changes: Any) -> Facts:
    return replace(WELL, redis=replace(REDIS, **changes))


def fleet(**changes: Any) -> Facts:
    return replace(WELL, fleet=replace(FLEET, **changes))


def scanned(*versions: ModelVersion, failures: tuple[ModelConfigError, ...] = ()) -> Facts:
    return replace(WELL, models=Scan([*versions], [*failures]))


def lines(facts: Facts) -> list[str]:
    return [finding.line() for finding in examine(facts) if finding.level is not Level.OK]


def test_a_well_fleet_has_a_line_for_every_check_and_nothing_to_mend() -> None:
    findings = examine(WELL)
    assert lines(WELL) == []
    assert healthy(findings)
    checks = ["postgres", "schema", "redis", "redis persistence", "redis memory", "object store", "clocks"]
    assert [f.check for f in findings] == [*checks, "workers", "versions", "models", "jobs", "quarantine"]


@pytest.mark.parametrize(
    ("facts", "level", "told", "remedy"),
    [
        (replace(WELL, postgres=REFUSAL, fleet=REFUSAL), "FAIL", "postgres: nothing answers", "until it"),
        (postgres(read_only=True), "FAIL", "postgres: it is read-only", "name the primary"),
        (postgres(cannot_write="No space left"), "FAIL", "written to: No space left", "a full disk"),
        (postgres(revision=None), "FAIL", "schema: the database has no tables", "shunter migrate"),
        (postgres(revision="0004"), "FAIL", "at migration 0004, and this version needs 0008", "migrate"),
        (postgres(revision="0099"), "warn", "newer than the 0008", "upgrade Shunter"),
        (replace(WELL, redis=REFUSAL), "FAIL", "redis: nothing answers", "SHUNTER_REDIS_URL"),
        (redis(version="6.0.16"), "FAIL", "Valkey 6.0.16 is too old", "6.2 or newer"),
        (redis(cannot_write="MISCONF"), "FAIL", "it takes no writes: MISCONF", "maxmemory"),
        (redis(keeps_log=False), "warn", "redis persistence: none", "appendonly yes"),
        (redis(policy="allkeys-lru"), "warn", "maxmemory-policy is allkeys-lru", "noeviction"),
        (redis(policy="allkeys-lru", max_bytes=2**30), "FAIL", "is allkeys-lru", "noeviction"),
        (redis(max_bytes=2**20), "warn", "1 MiB of 1 MiB are used", "raise maxmemory"),
        (replace(WELL, object_store=REFUSAL), "FAIL", "object store: nothing", "SHUNTER_OBJECT_STORE"),
        (replace(WELL, host="there"), "warn", "workers run on here too", "the same directory"),
        (postgres(clock_ahead_s=-90.0), "FAIL", "this host (here) is 90 s behind", "NTP"),
        (redis(clock_ahead_s=-10.0), "warn", "clock of Redis is 10 s ahead of", "NTP"),
        (fleet(workers=(worker(clock_ahead_s=3600.0),)), "FAIL", "worker gpu0@here is 3600 s ahead", "NTP"),
        (replace(WELL, fleet=REFUSAL), "FAIL", "workers: nothing answers", "mend what it names"),
        (fleet(workers=()), "FAIL", "workers: none is alive", "shunter worker"),
        (fleet(workers=(worker(silent_s=12.0),)), "FAIL", "(pid 7) has been silent for 12 s", "its log"),
        (fleet(workers=(worker(software="0.0.9"),)), "warn", "gpu0@here runs 0.0.9", "restart"),
        (fleet(workers=(worker(software=None),)), "warn", "runs one that does not tell", "restart"),
        (fleet(models=()), "warn", "models: none is registered", "models new"),
        (fleet(quarantined=3), "warn", "quarantine: 3 messages", "quarantine list"),
        (replace(WELL, models=REFUSAL), "FAIL", "models: nothing answers", "SHUNTER_MODELS"),
    ],
)
def test_an_ailment_is_named_with_its_remedy(facts: Facts, level: str, told: str, remedy: str) -> None:
    (line,) = [line for line in lines(facts) if told in line]
    assert line.startswith(level)
    assert remedy in line.partition(" \u2013 ")[2]
    assert healthy(examine(facts)) == (level == "warn")


def test_what_hangs_on_something_that_does_not_answer_is_not_judged() -> None:
    checks = {finding.check for finding in examine(replace(WELL, postgres=REFUSAL, fleet=REFUSAL))}
    assert checks == {"postgres", "redis", "redis persistence", "redis memory", "object store"}


def test_a_worker_that_was_given_up_is_told_of_until_another_of_its_name_beats() -> None:
    ended = (SilentEnd("gpu0@here", 6, 40.0), SilentEnd("gpu1@here", 8, 90.0))
    (line,) = lines(fleet(silent_ends=ended))
    assert "gpu1@here (pid 8) has been silent for 90 s and its jobs went to others" in line


def test_queued_jobs_of_a_version_that_nobody_serves_are_counted_by_version() -> None:
    queued = (QueuedVersion("digits", 1, 5, 1.0), QueuedVersion("digits", 2, 7, 1.0))
    (line,) = lines(fleet(queued=queued))
    assert line.startswith("FAIL  jobs: 7 queued for digits version 2, which no live worker serves")
    assert "shunter worker --models digits" in line


def test_jobs_without_an_envelope_are_told_of_once_the_relay_should_have_pushed_them() -> None:
    waiting = fleet(queued=(QueuedVersion("digits", 1, 5, 60.0),))
    assert "5 wait, and Redis holds no envelope of any" in lines(waiting)[0]
    assert lines(replace(waiting, envelopes=1)) == []
    assert lines(replace(waiting, envelopes=None)) == []
    assert lines(fleet(queued=(QueuedVersion("digits", 1, 5, 10.0),))) == []


def test_a_version_that_does_not_load_or_waits_for_memory_is_named_with_its_worker() -> None:
    serves = (Serving("digits", 1, "failed", "no\n  'weights'"), Serving("words", 2, "waiting_for_memory"))
    failed, waits = lines(fleet(workers=(worker(serves=serves),)))
    assert "digits version 1 cannot be loaded on gpu0@here: no 'weights'" in failed
    assert "words version 2 waits for memory on gpu0@here" in waits


def test_a_batch_that_has_run_for_half_its_timeout_is_told_of() -> None:
    def at_work(for_s: float) -> Facts:
        serving = Serving("digits", 1, "ready", at_work=AtWork("forward", rows=8, jobs=2, for_s=for_s))
        return fleet(workers=(worker(serves=(serving,)),))

    assert lines(at_work(100.0)) == []
    (line,) = lines(at_work(200.0))
    assert "gpu0@here has been in the forward of digits version 1 for 200 s" in line
    assert "after batch_timeout_s, 300 s" in line


def test_the_models_directory_is_compared_with_what_is_registered() -> None:
    same = ModelVersion("digits", 1, Path("models/digits/1"), ModelConfig(), "abc")
    assert lines(scanned(same)) == []
    (changed,) = lines(scanned(replace(same, digest="other")))
    assert "the files of digits version 1 have changed since it was registered" in changed
    assert lines(scanned(replace(same, version=2))) == []
    (new,) = lines(scanned(same, replace(same, version=2, digest="new")))
    assert "digits version 2 lies in the directory and is not registered" in new
    (wrong,) = lines(scanned(same, failures=(ModelConfigError("model.toml: unknown key 'max_row'"),)))
    assert wrong.startswith("FAIL  models: model.toml: unknown key 'max_row'")


def test_the_version_that_workers_tell_is_the_one_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION
