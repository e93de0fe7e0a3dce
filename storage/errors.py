"""Every error that Shunter raises, in one tree; the type alone says whose turn it is.

ShunterError
├── InvalidInput                 the caller must change something
│   ├── EmptyRows
│   ├── TooLarge
│   ├── UnknownModel
│   ├── Unauthorized
│   └── SettingsError
├── NotFound                     what was named does not exist
│   ├── UnknownJob
│   ├── NoReport
│   └── ObjectNotFound
├── Conflict                     what exists forbids it
│   ├── IdempotencyConflict
│   ├── ItemNotCancellable
│   ├── NotFinished
│   ├── NotRedrivable
│   ├── ReportPending
│   └── AlreadyFinished
├── Unavailable                  try again later; nothing was half done
│   ├── DatabaseUnavailable
│   ├── SchemaMismatch
│   ├── QueueUnavailable
│   ├── ObjectStoreUnavailable
│   ├── ApiUnavailable
│   └── Overloaded
├── WorkFailed                   the work was done, and failed
│   ├── JobFailed
│   └── RowsFailed
├── WaitTimeout                  the wait ended first; the work goes on
├── Corrupt                      bytes that nobody could have written
│   ├── DamagedObject
│   ├── PayloadError
│   └── EnvelopeError
├── ModelError                   the model's author must mend it
│   ├── ModelConfigError
│   ├── ModelLoadError
│   └── OutputMismatch
├── RowError                     raised by model code: this row is bad
└── Transient                    raised by model code: try the job again later
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shunter.storage.outcome import RowFailure

MAX_MESSAGE_CHARS = 2000
"""Longer messages are cut: an error is read by people and stored with its row."""


# In a URL up to its last @, as a password may hold one; in a DSN or a query up to what ends it there.
_SECRETS = re.compile(
    r"(?<=://)([^\s:@/]*:)[^\s/]*@|((?:password|passwd|secret_access_key)\s*=\s*)(?:'[^']*'|[^\s&;,'\"]+)",
    re.IGNORECASE,
)


def shorten(message: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """Cut a message to `limit` characters, drop NUL, which Postgres text cannot hold, and hide passwords."""
    clean = hide_secrets(message.replace("\x00", "\\x00").encode("utf-8", "replace").decode())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def hide_secrets(text: str) -> str:
    """The text without the passwords of the URLs and DSNs in it: drivers and model code quote them."""
    return _SECRETS.sub(lambda found: f"{found[1]}***@" if found[1] else f"{found[2]}***", text)


class ShunterError(Exception):
    """Something went wrong in Shunter."""

    code = "internal_error"
    http_status = 500

    @property
    def message(self) -> str:
        """What happened, to which value, and what to do."""
        return str(self)


class InvalidInput(ShunterError):
    """The request cannot be accepted as it stands."""

    code = "invalid_input"
    http_status = 422

    def __init__(self, message: str, *, field: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        if code is not None:
            self.code = code


class EmptyRows(InvalidInput):
    """There are no rows to run."""

    code = "empty_rows"


class TooLarge(InvalidInput):
    """The request is larger than one job may be."""

    code = "too_large"
    http_status = 413


class UnknownModel(InvalidInput):
    """No such model or version is registered."""

    code = "unknown_model"


class Unauthorized(InvalidInput):
    """The HTTP API asks for a key."""

    code = "unauthorized"
    http_status = 401


class SettingsError(InvalidInput):
    """A setting is missing or wrong."""

    code = "invalid_settings"


class NotFound(ShunterError):
    """What was named does not exist."""

    code = "not_found"
    http_status = 404


class UnknownJob(NotFound):
    """No job has this id: it was never accepted, or its retention has passed."""

    code = "unknown_job"

    def __init__(self, job_id: object) -> None:
        super().__init__(
            f"no job has the id {job_id}: check the id; finished jobs are kept for their retention"
        )
        self.job_id = str(job_id)


class NoReport(NotFound):
    """The scoring has no report, and will have none."""

    code = "no_report"


class ObjectNotFound(NotFound):
    """The object store holds nothing under this key."""

    code = "object_not_found"

    def __init__(self, key: str) -> None:
        super().__init__(f"the object store holds nothing under {key!r}")
        self.key = key


class Conflict(ShunterError):
    """What exists forbids this."""

    code = "conflict"
    http_status = 409


class IdempotencyConflict(Conflict):
    """The idempotency key was used before, for another request."""

    code = "idempotency_conflict"

    def __init__(self, key: str, job_id: object) -> None:
        super().__init__(
            f"idempotency key {key!r} belongs to job {job_id}, which was submitted with another body: "
            "use a new key, or send the same body"
        )
        self.key = key
        self.job_id = str(job_id)


class ItemNotCancellable(Conflict):
    """An item is one row of a job, and a job is cancelled whole."""

    code = "item_not_cancellable"

    def __init__(self, item_id: str, job_id: object) -> None:
        super().__init__(f"item {item_id} is one row of job {job_id}: cancel the job instead")
        self.job_id = str(job_id)


class NotFinished(Conflict):
    """The job has no results yet."""

    code = "not_finished"

    def __init__(self, job_id: object, state: str) -> None:
        super().__init__(
            f"job {job_id} is {state}, and has no results yet: ask again later, or wait with ?wait=30"
        )
        self.job_id = str(job_id)
        self.state = state


class AlreadyFinished(Conflict):
    """The job is in a terminal state, which it never leaves."""

    code = "already_finished"

    def __init__(self, job_id: object, state: str) -> None:
        super().__init__(f"job {job_id} is already {state}: a finished job cannot be cancelled")
        self.job_id = str(job_id)
        self.state = state


class ReportPending(Conflict):
    """The report is still to come."""

    code = "report_pending"


class NotRedrivable(Conflict):
    """The job has no failed rows that could be run again."""

    code = "not_redrivable"

    def __init__(self, job_id: object, reason: str) -> None:
        super().__init__(f"job {job_id} cannot be redriven: {reason}")
        self.job_id = str(job_id)


class Unavailable(ShunterError):
    """A service that this needs does not answer; the same call may succeed later."""

    code = "unavailable"
    http_status = 503


class DatabaseUnavailable(Unavailable):
    """Postgres does not answer."""

    code = "database_unavailable"


class SchemaMismatch(Unavailable):
    """The tables in Postgres are not those that this version of Shunter needs."""

    code = "schema_mismatch"


class QueueUnavailable(Unavailable):
    """Redis does not answer."""

    code = "queue_unavailable"


class ObjectStoreUnavailable(Unavailable):
    """The object store does not answer."""

    code = "object_store_unavailable"


class ApiUnavailable(Unavailable):
    """The HTTP API does not answer."""

    code = "api_unavailable"


class Overloaded(Unavailable):
    """There is too much at once to be held in memory; the same call may succeed in a moment."""

    code = "overloaded"


class WorkFailed(ShunterError):
    """The job ended, and not every row has an output."""

    code = "work_failed"
    http_status = 409


class JobFailed(WorkFailed):
    """The job ended without a single output."""

    code = "job_failed"

    def __init__(self, job_id: object, state: str, message: str) -> None:
        super().__init__(f"job {job_id} {state}: {message}")
        self.job_id = str(job_id)
        self.state = state


class RowsFailed(WorkFailed):
    """Some rows failed; the others have their outputs."""

    code = "rows_failed"

    def __init__(self, job_id: object, outputs: Sequence[object], errors: Sequence[RowFailure]) -> None:
        first = errors[0]
        super().__init__(
            f"{len(errors)} of {len(outputs)} rows of job {job_id} failed; "
            f"row {first.index}: {first.code}: {first.message} "
            '(`.outputs` and `.errors` hold both lists; outputs(errors="none") returns None for failed rows)'
        )
        self.job_id = str(job_id)
        self.outputs = list(outputs)
        self.errors = list(errors)


class WaitTimeout(ShunterError, TimeoutError):
    """The wait ended before the job did; the job goes on."""

    code = "wait_timeout"
    http_status = 504


class Corrupt(ShunterError):
    """These bytes were not written by Shunter, or were damaged."""

    code = "corrupt"


class DamagedObject(Corrupt):
    """An object's bytes are not those that were written."""

    code = "damaged_object"

    def __init__(self, url: str, key: str) -> None:
        super().__init__(
            f"{url}: the bytes of {key!r} are not those that were written: restore it from a backup, "
            "or submit the work again (a scoring with --force)"
        )
        self.key = key


class PayloadError(Corrupt):
    """A stored block of rows cannot be decoded."""

    code = "corrupt_payload"


class EnvelopeError(Corrupt):
    """An envelope cannot be understood."""

    code = "bad_envelope"


class ModelError(ShunterError):
    """The model itself is at fault."""

    code = "model_error"


class ModelConfigError(ModelError):
    """A model's directory or model.toml is wrong."""

    code = "model_config"


class ModelLoadError(ModelError):
    """The model could not be loaded."""

    code = "model_load_failed"


class OutputMismatch(ModelError):
    """The model did not return exactly one output for each row; the counts, where it returned some."""

    code = "output_mismatch"

    def __init__(self, message: str, *, returned: int | None = None, expected: int | None = None) -> None:
        super().__init__(message)
        self.returned = returned
        self.expected = expected


class RowError(ShunterError):
    """Raise this from model code when one row is bad: only that row fails, with this code and message."""

    code = "row_error"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Transient(ShunterError):
    """Raise this from model code when trying again later may help; `after_s` is the least wait in seconds."""

    code = "transient"

    def __init__(self, after_s: float = 1.0, message: str = "the model asked to be tried again") -> None:
        super().__init__(message)
        self.after_s = after_s
