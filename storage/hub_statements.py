"""How a hub claims and settles, as SQL: one guarded UPDATE for many jobs and, sooner planned, for one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from shunter.storage import arrays
from shunter.storage.database import Cursor
from shunter.storage.job import JobState
from shunter.storage.job_insertion import NOT_AT_ONCE
from shunter.storage.outcome import Outcome, error_document

Statement = tuple[str, dict[str, Any]]
"""SQL and its parameters."""

# Bulk statements meet their rows in the order of their ids, so that they do not wait for each other in a
# circle: a hash join, the only one left, keeps the order of whichever side leads it, an index scan or the
# array, as long as the other fits into memory; beyond that a circle would be an outage of a second. And what
# is given is taken for one row: a nested loop would compare each job with each.
IN_ID_ORDER = """
SET LOCAL enable_nestloop = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off;
"""

# The planner sees an id's bounds and not the ids: it would think about the partition of each by itself,
# which takes a fifth of the time of the whole statement. An array is read once, since its text is long.
_GIVEN = "WITH given AS MATERIALIZED (SELECT %(ids)s::uuid[] AS ids)"
_IDS = "(SELECT ids FROM given)"
_AMONG_GIVEN = f"jobs.id = ANY({_IDS}::uuid[]) AND jobs.id BETWEEN %(lowest)s AND %(highest)s"

# Rows are found by their ids alone: `state::text` fits no index. Given the state itself, a planner whose
# statistics are older than a backlog would rather read all that waits for a model, or all that a worker runs.
_CLAIM = f"""
UPDATE jobs SET state = '{JobState.RUNNING}', worker = %(worker)s, epoch = epoch + 1, started_at = now(),
    not_before = NULL, envelope = {{envelope}}
{{given}} AND state::text = '{JobState.QUEUED}' AND (model, version) IN %(served)s
  AND coalesce(not_before <= now(), true) AND coalesce(deadline_at > now(), true)
RETURNING jobs.id, epoch, version, rows, priority, attempts, deaths,
    date_part('epoch', now() - enqueued_at) AS queued_s, model, input, input_key,
    date_part('epoch', deadline_at - now()) AS deadline_in_s
"""

CLAIM_ONE = _CLAIM.format(envelope="%(envelope)s", given="WHERE jobs.id = %(id)s")

CLAIM = _GIVEN + _CLAIM.format(
    envelope="hint.envelope",
    given=f"""FROM unnest({_IDS}, %(envelopes)s::uuid[]) AS hint (id, envelope)
WHERE jobs.id = hint.id AND {_AMONG_GIVEN}""",
)

# One job that has ended, without what is for jobs that go back to the queue.
END_ONE = f"""
UPDATE jobs SET
    state = %(state)s, rows_succeeded = %(succeeded)s, rows_failed = %(failed)s,
    attempts = attempts + %(attempt)s, output = %(output)s, output_key = %(output_key)s,
    row_errors = %(row_errors)s, error = %(error)s,
    forward_at = coalesce(now() - make_interval(secs => %(forward_age)s), forward_at), finished_at = now()
WHERE id = %(id)s AND state::text = '{JobState.RUNNING}' AND worker = %(worker)s AND epoch = %(epoch)s
"""

SETTLE = f"""{_GIVEN}, settled AS (UPDATE jobs SET
    state = new_state, rows_succeeded = succeeded, rows_failed = failed, attempts = attempts + attempt,
    output = new_output, output_key = new_output_key, row_errors = new_row_errors::jsonb,
    error = new_error::jsonb,
    forward_at = coalesce(now() - make_interval(secs => forward_age), forward_at),
    finished_at = CASE WHEN new_state = '{JobState.QUEUED}' THEN NULL ELSE now() END,
    worker = CASE WHEN new_state = '{JobState.QUEUED}' THEN NULL ELSE worker END,
    started_at = CASE WHEN new_state = '{JobState.QUEUED}' THEN NULL ELSE started_at END,
    enqueued_at = CASE WHEN new_state = '{JobState.QUEUED}' THEN now() ELSE enqueued_at END,
    not_before = CASE WHEN new_state = '{JobState.QUEUED}' AND retry_in > 0
                      THEN now() + make_interval(secs => retry_in) END
FROM {{done}}
WHERE jobs.id = done.done_id AND {_AMONG_GIVEN}
  AND state::text = '{JobState.RUNNING}' AND worker = %(worker)s AND epoch = done.done_epoch
RETURNING jobs.id)
SELECT unnest({_IDS}) EXCEPT SELECT id FROM settled
"""


class _Column(NamedTuple):
    """What is written of an outcome: its name and type in SQL, and many of it as an array literal."""

    name: str
    type: str
    of: Callable[[Outcome], Any]
    array: Callable[[Iterable[Any]], str]


def claim(hints: Mapping[UUID, UUID], *, worker: UUID, served: Collection[tuple[str, int]]) -> Statement:
    """Take the queued and due ones of these jobs, given as {job id: envelope id}; neither may be empty."""
    whose = {"worker": worker, "served": tuple(served)}
    if len(hints) == 1:
        ((id, envelope),) = hints.items()
        return NOT_AT_ONCE + CLAIM_ONE, {**whose, "id": id, "envelope": envelope}
    ids = sorted(hints, key=_NUMBER)
    envelopes = arrays.uuids(map(hints.__getitem__, ids))
    return NOT_AT_ONCE + IN_ID_ORDER + CLAIM, {**whose, **_given(ids), "envelopes": envelopes}


def settle(outcomes: Sequence[Outcome], *, worker: UUID) -> Statement:
    """Write these outcomes where the claim still holds; there must be one at least. See `refused`."""
    if len(outcomes) == 1 and outcomes[0].state.terminal:
        return END_ONE, {**_ending(outcomes[0]), "worker": worker}
    in_order = sorted(outcomes, key=lambda outcome: outcome.id.int)
    done, values = _done(in_order)
    given = _given([outcome.id for outcome in in_order])
    return IN_ID_ORDER + SETTLE.format(done=done), {**values, **given, "worker": worker}


def refused(cursor: Cursor, outcomes: Sequence[Outcome]) -> set[UUID]:
    """Those of these jobs that the settlement just made could not write, which nearly always are none."""
    if cursor.description is None:
        return set() if cursor.rowcount else {outcomes[0].id}
    return {id for (id,) in cursor.fetchall()}


def _given(ids: Sequence[UUID]) -> dict[str, Any]:
    return {"ids": arrays.uuids(ids), "lowest": ids[0], "highest": ids[-1]}


def _done(outcomes: Sequence[Outcome]) -> tuple[str, dict[str, Any]]:
    """The outcomes as a table, in the order of the ids that are given, and its values.

    What all have in common, which is most of it, stands there once.
    """
    names, arrays_, alike, values = ["done_id"], [_IDS], ["each.*"], {}
    for name, type, of, array in _COLUMNS:
        column = list(map(of, outcomes))
        if column.count(column[0]) == len(column):
            alike.append(f"%({name})s::{type} AS {name}")
            values[name] = column[0]
        else:
            names.append(name)
            arrays_.append(f"%({name})s::{type}[]")
            values[name] = array(column)
    each = f"unnest({', '.join(arrays_)}) AS each ({', '.join(names)})"
    return f"(SELECT {', '.join(alike)} FROM {each}) AS done", values


def _ending(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.id,
        "epoch": outcome.epoch,
        "state": outcome.state,
        "succeeded": outcome.rows_succeeded,
        "failed": outcome.rows_failed,
        "attempt": int(outcome.counts_attempt),
        "forward_age": outcome.forward_age_s,
        "output": _inline(outcome),
        "output_key": _key(outcome),
        "row_errors": _row_errors(outcome),
        "error": _error(outcome),
    }


def _inline(outcome: Outcome) -> bytes | None:
    return None if outcome.output is None else outcome.output.inline


def _key(outcome: Outcome) -> str | None:
    return None if outcome.output is None else outcome.output.key


def _row_errors(outcome: Outcome) -> str | None:
    return _json([failure.document() for failure in outcome.failures]) if outcome.failures else None


def _error(outcome: Outcome) -> str | None:
    return None if outcome.error is None else _json(error_document(outcome.error))


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


_NUMBER = attrgetter("int")

_COLUMNS = (
    _Column("done_epoch", "int", attrgetter("epoch"), arrays.numbers),
    _Column("new_state", "job_state", attrgetter("state"), arrays.labels),
    _Column("succeeded", "int", attrgetter("rows_succeeded"), arrays.numbers),
    _Column("failed", "int", attrgetter("rows_failed"), arrays.numbers),
    _Column("attempt", "int", lambda outcome: int(outcome.counts_attempt), arrays.numbers),
    _Column("retry_in", "float8", attrgetter("retry_in_s"), arrays.numbers),
    _Column("forward_age", "float8", attrgetter("forward_age_s"), arrays.numbers),
    _Column("new_output", "bytea", _inline, arrays.byteas),
    _Column("new_output_key", "text", _key, arrays.texts),
    _Column("new_row_errors", "text", _row_errors, arrays.texts),
    _Column("new_error", "text", _error, arrays.texts),
)
