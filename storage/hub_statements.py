"""How a hub claims and settles, as SQL: one guarded UPDATE for many jobs and, sooner planned, for one.

Many are locked in id order first, so that bulk statements never wait for each other in a circle; one job
needs no order, and what it is given are constants then instead of rows to join.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from shunter.storage import arrays
from shunter.storage.job import JobState
from shunter.storage.job_insertion import NOT_AT_ONCE
from shunter.storage.outcome import Outcome, error_document

Statement = tuple[str, dict[str, Any]]
"""SQL and its parameters."""

# The planner takes what is given for one row, and would compare each job with each.
NO_NESTED_LOOP = "SET LOCAL enable_nestloop = off;"

# Rows are found by their ids alone: `state::text` fits no index. Given the state itself, a planner whose
# statistics are older than a backlog would rather read all that waits for a model, or all that a worker runs.
_CLAIM = f"""
UPDATE jobs SET state = '{JobState.RUNNING}', worker = %(worker)s, epoch = epoch + 1, started_at = now(),
    not_before = NULL, envelope = {{envelope}}
{{given}} AND {{named}}.state::text = '{JobState.QUEUED}'
  AND ({{named}}.model, {{named}}.version) IN %(served)s
  AND coalesce({{named}}.not_before <= now(), true) AND coalesce({{named}}.deadline_at > now(), true)
RETURNING jobs.id, epoch, jobs.model, jobs.version, rows, priority, attempts, deaths,
    date_part('epoch', jobs.deadline_at - now()) AS deadline_in_s,
    date_part('epoch', now() - enqueued_at) AS queued_s, input, input_key
"""

CLAIM_ONE = _CLAIM.format(envelope="%(envelope)s", given="WHERE jobs.id = %(id)s", named="jobs")

# Ids stand in the statement a second time as a literal array: only then does the planner leave out
# the partitions that cannot hold them. A claim judges its rows once they are locked.
CLAIM = """
WITH hint AS (SELECT * FROM unnest(%(ids)s::uuid[], %(envelopes)s::uuid[]) AS hint (id, envelope)),
named AS (
    SELECT id, state, model, version, not_before, deadline_at FROM jobs
    WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id FOR UPDATE
)""" + _CLAIM.format(
    envelope="hint.envelope",
    given="""FROM named JOIN hint ON hint.id = named.id
WHERE jobs.id = named.id AND jobs.id = ANY(%(ids)s::uuid[])""",
    named="named",
)

# One job that has ended, without what is for jobs that go back to the queue.
END_ONE = f"""
UPDATE jobs SET
    state = %(state)s, rows_succeeded = %(succeeded)s, rows_failed = %(failed)s,
    attempts = attempts + %(attempt)s, output = %(output)s, output_key = %(output_key)s,
    row_errors = %(row_errors)s, error = %(error)s,
    forward_at = coalesce(now() - make_interval(secs => %(forward_age)s), forward_at), finished_at = now()
WHERE id = %(id)s AND state::text = '{JobState.RUNNING}' AND worker = %(worker)s AND epoch = %(epoch)s
RETURNING id
"""

SETTLE = f"""
WITH held AS (
    SELECT done.*
    FROM jobs JOIN unnest(%(ids)s::uuid[], %(epochs)s::int[], %(states)s::job_state[], %(succeeded)s::int[],
        %(failed)s::int[], %(attempts)s::int[], %(retry_in)s::float8[], %(forward_age)s::float8[],
        %(outputs)s::bytea[], %(output_keys)s::text[], %(row_errors)s::text[], %(errors)s::text[])
        AS done (done_id, done_epoch, new_state, succeeded, failed, attempt, retry_in, forward_age,
                 new_output, new_output_key, new_row_errors, new_error)
        ON done_id = jobs.id AND done_epoch = jobs.epoch
    WHERE jobs.id = ANY(%(ids)s::uuid[]) AND state::text = '{JobState.RUNNING}' AND worker = %(worker)s
    ORDER BY jobs.id FOR UPDATE OF jobs
)
UPDATE jobs SET
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
FROM held
WHERE jobs.id = held.done_id AND jobs.id = ANY(%(ids)s::uuid[])
  AND state::text = '{JobState.RUNNING}' AND worker = %(worker)s AND epoch = held.done_epoch
RETURNING jobs.id
"""


def claim(hints: Mapping[UUID, UUID], *, worker: UUID, served: Collection[tuple[str, int]]) -> Statement:
    """Take the queued and due ones of these jobs, given as {job id: envelope id}; neither may be empty."""
    whose = {"worker": worker, "served": tuple(served)}
    if len(hints) == 1:
        ((id, envelope),) = hints.items()
        return NOT_AT_ONCE + CLAIM_ONE, {**whose, "id": id, "envelope": envelope}
    ids, envelopes = arrays.uuids(hints), arrays.uuids(hints.values())
    return NOT_AT_ONCE + NO_NESTED_LOOP + CLAIM, {**whose, "ids": ids, "envelopes": envelopes}


def settle(outcomes: Sequence[Outcome], *, worker: UUID) -> Statement:
    """Write these outcomes where the claim still holds; there must be one at least."""
    if len(outcomes) == 1 and outcomes[0].state.terminal:
        return END_ONE, {**_ending(outcomes[0]), "worker": worker}
    return NO_NESTED_LOOP + SETTLE, {**_settlements(outcomes), "worker": worker}


def _ending(outcome: Outcome) -> dict[str, Any]:
    blob = outcome.output
    return {
        "id": outcome.id,
        "epoch": outcome.epoch,
        "state": outcome.state,
        "succeeded": outcome.rows_succeeded,
        "failed": outcome.rows_failed,
        "attempt": int(outcome.counts_attempt),
        "forward_age": outcome.forward_age_s,
        "output": None if blob is None else blob.inline,
        "output_key": None if blob is None else blob.key,
        "row_errors": _row_errors(outcome),
        "error": _json(error_document(outcome.error)),
    }


def _settlements(outcomes: Sequence[Outcome]) -> dict[str, str]:
    blobs = [outcome.output for outcome in outcomes]
    return {
        "ids": arrays.uuids(outcome.id for outcome in outcomes),
        "epochs": arrays.numbers(outcome.epoch for outcome in outcomes),
        "states": arrays.labels(outcome.state for outcome in outcomes),
        "succeeded": arrays.numbers(outcome.rows_succeeded for outcome in outcomes),
        "failed": arrays.numbers(outcome.rows_failed for outcome in outcomes),
        "attempts": arrays.numbers(int(outcome.counts_attempt) for outcome in outcomes),
        "retry_in": arrays.numbers(outcome.retry_in_s for outcome in outcomes),
        "forward_age": arrays.numbers(outcome.forward_age_s for outcome in outcomes),
        "outputs": arrays.byteas(None if blob is None else blob.inline for blob in blobs),
        "output_keys": arrays.texts(None if blob is None else blob.key for blob in blobs),
        "row_errors": arrays.texts(_row_errors(outcome) for outcome in outcomes),
        "errors": arrays.texts(_json(error_document(outcome.error)) for outcome in outcomes),
    }


def _row_errors(outcome: Outcome) -> str | None:
    return _json([failure.document() for failure in outcome.failures] or None)


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
