"""Judges the fleet: its workers, their versions, its models, and what is left lying; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shunter.doctor.facts import Facts, FleetFacts, Refusal
from shunter.doctor.findings import Finding, fail, ok, warn
from shunter.storage.model_registry import Scan
from shunter.storage.queue_depth import QueuedVersion
from shunter.storage.serving import ServingState
from shunter.storage.worker_registry import Serving, Worker

OVERDUE_S = 30.0
"""A job that has waited so long without an envelope has lost it: the relay pushes another well before."""

LONG_AT_WORK = 0.5
"""Of its batch timeout: a batch that takes longer is told of."""


def check_workers(facts: Facts) -> Iterator[Finding]:
    """They beat, are at work on nothing for too long, and run the version of this program."""
    fleet = facts.fleet
    if isinstance(fleet, Refusal):
        if _has_tables(facts):
            yield fail(
                "workers", fleet.message, "mend what it names: what the fleet does is not known until then"
            )
        return
    live = [worker for worker in fleet.workers if worker.live]
    if live:
        yield ok("workers", f"{len(live)} alive: {', '.join(worker.name for worker in live)}")
    else:
        yield fail("workers", "none is alive", "start one: `shunter worker`, or `shunter up`; see its log")
    for worker in fleet.workers:
        if not worker.live:
            yield _silent(worker.name, worker.pid, worker.silent_s, "and is about to be given up")
    beating = {worker.name for worker in live}
    for ended in fleet.silent_ends:
        if ended.name not in beating:
            yield _silent(ended.name, ended.pid, ended.silent_s, "and its jobs went to others")
    yield from _slow_batches(live, fleet)
    yield from _versions(live, facts.software)


def _silent(name: str, pid: int, silent_s: float, consequence: str) -> Finding:
    return fail(
        "workers",
        f"{name} (pid {pid}) has been silent for {silent_s:.0f} s {consequence}: killed, stopped, "
        "hung, or cut off from Postgres",
        "look at its process and its log, and start it again",
    )


def _has_tables(facts: Facts) -> bool:
    """Whether the tables could be read: else another check has told of what is missing."""
    revision = None if isinstance(facts.postgres, Refusal) else facts.postgres.revision
    return revision is not None and revision >= facts.newest_revision


def _slow_batches(live: Sequence[Worker], fleet: FleetFacts) -> Iterator[Finding]:
    limits = {(m.name, m.version): m.config.run.batch_timeout_s for m in fleet.models}
    for worker in live:
        for serving in worker.serves:
            work, limit_s = serving.at_work, limits.get((serving.model, serving.version))
            if work is None or limit_s is None or work.for_s < LONG_AT_WORK * limit_s:
                continue
            yield warn(
                "workers",
                f"{worker.name} has been in the {work.stage} of {_name(serving)} for {work.for_s:.0f} s",
                f"its engine is killed after batch_timeout_s, {limit_s:g} s, and the guilty row is searched",
            )


def _versions(live: Sequence[Worker], ours: str) -> Iterator[Finding]:
    others = {w.name: w.software or "one that does not tell" for w in live if w.software != ours}
    if not others:
        if live:
            yield ok("versions", f"all run {ours}")
        return
    told = ", ".join(f"{name} runs {version}" for name, version in others.items())
    yield warn("versions", f"this is {ours}, and {told}", "restart those workers with this version")


def check_models(facts: Facts) -> Iterator[Finding]:
    """What lies in the directory is sound and registered; what is registered loads somewhere."""
    if isinstance(facts.models, Refusal):
        yield fail("models", facts.models.message, "mend it, or name another directory in SHUNTER_MODELS")
    elif facts.models is not None:
        for failure in facts.models.failures:
            yield fail("models", str(failure), "mend it, and publish it as the next version")
    fleet = facts.fleet
    if isinstance(fleet, Refusal):
        return
    problems = [*_unregistered(facts.models, fleet), *_unloaded(fleet)]
    yield from problems
    if not fleet.models:
        yield warn("models", "none is registered", "`shunter models new NAME` begins one")
    elif not problems:
        yield ok("models", f"{len(fleet.models)} versions are registered, and none failed to load")


def _unregistered(scanned: Scan | Refusal | None, fleet: FleetFacts) -> Iterator[Finding]:
    if not isinstance(scanned, Scan):
        return
    registered = {(model.name, model.version) for model in fleet.models}
    # Under whatever number: `shunter up --reload` registers copies.
    known = {(model.name, model.digest) for model in fleet.models}
    for found in scanned.versions:
        if (found.name, found.digest) in known:
            continue
        if (found.name, found.version) not in registered:
            yield warn(
                "models",
                f"{found.name} version {found.version} lies in the directory and is not registered",
                "a worker that serves this directory registers it within seconds: is one alive?",
            )
        else:
            yield warn(
                "models",
                f"the files of {found.name} version {found.version} have changed since it was registered",
                f"publish them as the next version: `shunter models publish {found.name} DIR`",
            )


def _unloaded(fleet: FleetFacts) -> Iterator[Finding]:
    served = [(w, s) for w in fleet.workers if w.live for s in w.serves]
    for worker, serving in served:
        if serving.state == ServingState.FAILED:
            yield fail(
                "models",
                f"{_name(serving)} cannot be loaded on {worker.name}: {serving.error or 'it gave no reason'}",
                "try it by `shunter models check`, and publish the next version",
            )
        elif serving.state == ServingState.WAITING_FOR_MEMORY:
            yield warn(
                "models",
                f"{_name(serving)} waits for memory on {worker.name}",
                "give the worker more --memory, or its models more workers",
            )


def check_jobs(facts: Facts) -> Iterator[Finding]:
    """Every queued job has a worker for its version and an envelope."""
    fleet = facts.fleet
    if isinstance(fleet, Refusal):
        return
    served = {(s.model, s.version) for w in fleet.workers if w.live for s in w.serves}
    unserved = [queued for queued in fleet.queued if (queued.model, queued.version) not in served]
    for queued in unserved:
        yield fail(
            "jobs",
            f"{queued.jobs} queued for {queued.model} version {queued.version}, which no live worker serves",
            f"`shunter worker --models {queued.model}`; after 10 minutes they fail with version_unavailable",
        )
    if not unserved:
        yield ok("jobs", f"{_jobs(fleet.queued)} queued, all for versions that are served")
    yield from _lost_envelopes(fleet.queued, facts.envelopes)


def _lost_envelopes(queued: Sequence[QueuedVersion], envelopes: int | None) -> Iterator[Finding]:
    overdue = [line for line in queued if line.overdue_s > OVERDUE_S]
    if envelopes == 0 and overdue:
        yield fail(
            "jobs",
            f"{_jobs(overdue)} wait, and Redis holds no envelope of any",
            "a live worker pushes them again within 20 s: is one alive? `shunter verify` tells more",
        )


def check_quarantine(facts: Facts) -> Iterator[Finding]:
    """No message waits for somebody to look at it."""
    if isinstance(facts.fleet, Refusal):
        return
    count = facts.fleet.quarantined
    if count:
        yield warn("quarantine", f"{count} messages could not be understood", "`shunter quarantine list`")
    else:
        yield ok("quarantine", "empty")


def _name(serving: Serving) -> str:
    return f"{serving.model} version {serving.version}"


def _jobs(lines: Sequence[QueuedVersion]) -> int:
    return sum(line.jobs for line in lines)
