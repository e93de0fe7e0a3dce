"""What is asked of a submission, checked when it is made, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from shunter.storage.errors import InvalidInput
from shunter.storage.job import DEFAULT_TENANT, Priority
from shunter.storage.metadata import check_metadata

MAX_KEY_CHARS = 255
MAX_DEADLINE_S = 366 * 24 * 3600
MAX_VERSION = 2**31 - 1
LABELS = tuple(priority.label for priority in Priority)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a job is to be run, checked at construction; the same for every row of one submission."""

    version: int | None = None
    priority: str = Priority.STANDARD.label
    deadline_s: float | None = None
    idempotency_key: str | None = None
    metadata: Mapping[str, Any] | None = None
    tenant: str = DEFAULT_TENANT

    def __post_init__(self) -> None:
        if self.priority not in LABELS:
            raise InvalidInput(
                f"priority is {self.priority!r}: it must be one of {', '.join(LABELS)}", field="priority"
            )
        _check_version(self.version)
        _check_deadline(self.deadline_s)
        _check_key(self.idempotency_key)
        check_metadata(self.metadata)

    def refuse_key(self, method: str) -> None:
        """Raise InvalidInput if there is an idempotency key: it names one job, and `method` makes several."""
        if self.idempotency_key is not None:
            raise InvalidInput(
                f"{method} takes no idempotency_key: give one to each submit", field="idempotency_key"
            )


class Accepted(NamedTuple):
    """A job that is durable, now or since its idempotency key was first used."""

    id: UUID
    model: str
    version: int
    rows: int


def check_model_name(model: object) -> str:
    """The name, if it can be one; InvalidInput."""
    if not isinstance(model, str) or not model or not model.isprintable():
        raise InvalidInput(f"model is {model!r:.80}: give the name of a model", field="model")
    return model


def _check_version(version: object) -> None:
    if version is None:
        return
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= MAX_VERSION:
        raise InvalidInput(f"version is {version!r}: versions are positive integers", field="version")


def _check_deadline(deadline_s: object) -> None:
    if deadline_s is None:
        return
    number = isinstance(deadline_s, int | float) and not isinstance(deadline_s, bool)
    if not number or not 0 < deadline_s <= MAX_DEADLINE_S:  # type: ignore[operator]
        raise InvalidInput(
            f"deadline_s is {deadline_s!r}: it must be a number of seconds above 0, up to {MAX_DEADLINE_S}",
            field="deadline_s",
        )


def _check_key(key: object) -> None:
    if key is None:
        return
    if not isinstance(key, str) or not (0 < len(key) <= MAX_KEY_CHARS and key.isprintable()):
        raise InvalidInput(
            f"idempotency key {key!r:.60} is refused: use 1 to {MAX_KEY_CHARS} printable characters",
            field="idempotency_key",
        )
