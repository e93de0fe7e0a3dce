"""Judges the services: Postgres, Redis, the object store, and whether the clocks agree; pure."""

from __future__ import annotations

from collections.abc import Iterator

from shunter.doctor.facts import Facts, FleetFacts, PostgresFacts, RedisFacts, Refusal
from shunter.doctor.findings import Finding, fail, ok, warn
from shunter.storage.sizes import format_size

OLDEST_REDIS = (6, 2)

FULL_SHARE = 0.9
"""Of its memory limit: a Redis fuller than that will soon refuse envelopes."""

CLOCK_WARN_S, CLOCK_FAIL_S = 2.0, 30.0
"""Rows and envelopes are stamped by Postgres and Redis: their clocks matter most, those of others in logs."""


def check_postgres(facts: Facts) -> Iterator[Finding]:
    """It answers, can be written to, and has this version's schema."""
    postgres = facts.postgres
    if isinstance(postgres, Refusal):
        yield fail("postgres", postgres.message, "no job can be submitted or settled until it answers")
        return
    if postgres.read_only:
        yield fail(
            "postgres",
            "it is read-only: a standby, or default_transaction_read_only is on",
            "name the primary in SHUNTER_DATABASE_URL, or make it writable; workers hold their outcomes",
        )
    elif postgres.cannot_write is not None:
        yield fail(
            "postgres",
            f"it cannot be written to: {postgres.cannot_write}",
            "mend what it names (a full disk, missing rights)",
        )
    else:
        yield ok("postgres", f"{postgres.version}, writable")
    yield _schema(postgres, facts.newest_revision)


def _schema(postgres: PostgresFacts, newest: str) -> Finding:
    if postgres.revision is None:
        return fail("schema", "the database has no tables of Shunter", "run `shunter migrate`")
    if postgres.revision < newest:
        return fail(
            "schema",
            f"it is at migration {postgres.revision}, and this version needs {newest}",
            "run `shunter migrate`; older workers go on beside it",
        )
    if postgres.revision > newest:
        return warn(
            "schema",
            f"it is at migration {postgres.revision}, newer than the {newest} that this version knows",
            "upgrade Shunter on this host",
        )
    return ok("schema", f"at migration {newest}")


def check_redis(facts: Facts) -> Iterator[Finding]:
    """It answers, is new enough, forgets nothing and takes what is pushed."""
    redis = facts.redis
    if isinstance(redis, Refusal):
        remedy = "submitted jobs are stored, and begin when it is back: start it, or mend SHUNTER_REDIS_URL"
        yield fail("redis", redis.message, remedy)
        return
    if redis.cannot_write is not None:
        yield fail(
            "redis",
            f"it takes no writes: {redis.cannot_write}",
            "mend what it names (disk, maxmemory, a replica); jobs are stored, and begin when it writes",
        )
    elif _version(redis.version) < OLDEST_REDIS:
        yield fail("redis", f"{redis.name} {redis.version} is too old", "upgrade it to 6.2 or newer")
    else:
        yield ok("redis", f"{redis.name} {redis.version}, writable")
    yield _persistence(redis)
    yield _eviction(redis)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _persistence(redis: RedisFacts) -> Finding:
    if redis.keeps_log or redis.keeps_snapshots:
        return ok("redis persistence", "append-only file" if redis.keeps_log else "snapshots")
    return warn(
        "redis persistence",
        "none: after a restart queued jobs are pushed again from Postgres, plain Celery messages are lost",
        "set appendonly yes if such messages matter",
    )


def _eviction(redis: RedisFacts) -> Finding:
    check = "redis memory"
    used = format_size(redis.used_bytes)
    if redis.policy != "noeviction":
        message = f"maxmemory-policy is {redis.policy}: it throws queues away when it is full"
        level = fail if redis.max_bytes else warn
        return level(check, message, "CONFIG SET maxmemory-policy noeviction")
    if not redis.max_bytes:
        return ok(check, f"{used}, noeviction")
    limit = format_size(redis.max_bytes)
    if redis.used_bytes > FULL_SHARE * redis.max_bytes:
        return warn(check, f"{used} of {limit} are used", "raise maxmemory, or move other data elsewhere")
    return ok(check, f"{used} of {limit}, noeviction")


def check_object_store(facts: Facts) -> Iterator[Finding]:
    """An object can be written, read and removed again, and by all hosts."""
    store = facts.object_store
    if isinstance(store, Refusal):
        yield fail(
            "object store",
            store.message,
            "mend what it names, or SHUNTER_OBJECT_STORE; jobs with large inputs or outputs wait for it",
        )
        return
    yield ok("object store", f"{store} was written and read")
    hosts = _hosts(facts.fleet) - {facts.host}
    if store.startswith("file:") and hosts:
        yield warn(
            "object store",
            f"it is a directory, and workers run on {', '.join(sorted(hosts))} too",
            "they must see the same directory at the same path; s3:// needs no shared disk",
        )


def _hosts(fleet: FleetFacts | Refusal) -> set[str]:
    return set() if isinstance(fleet, Refusal) else {w.host for w in fleet.workers if w.live}


def check_clocks(facts: Facts) -> Iterator[Finding]:
    """Postgres stands for the true time: rows are stamped and due by it."""
    if isinstance(facts.postgres, Refusal):
        return
    here_s = facts.postgres.clock_ahead_s
    offsets = {f"this host ({facts.host})": here_s}
    if not isinstance(facts.redis, Refusal):
        offsets["Redis"] = here_s - facts.redis.clock_ahead_s
    if not isinstance(facts.fleet, Refusal):
        told = {w.name: w.clock_ahead_s for w in facts.fleet.workers if w.live}
        offsets |= {f"worker {name}": ahead for name, ahead in told.items() if ahead is not None}
    wrong = [_clock(who, ahead_s) for who, ahead_s in offsets.items() if abs(ahead_s) > CLOCK_WARN_S]
    if not wrong:
        yield ok("clocks", f"{len(offsets) + 1} clocks agree within {CLOCK_WARN_S:g} s")
    yield from wrong


def _clock(who: str, ahead_s: float) -> Finding:
    direction = "ahead of" if ahead_s > 0 else "behind"
    level = fail if abs(ahead_s) > CLOCK_FAIL_S else warn
    return level(
        "clocks",
        f"the clock of {who} is {abs(ahead_s):.0f} s {direction} that of Postgres",
        "set both by NTP (chronyc tracking, timedatectl)",
    )
