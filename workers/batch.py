"""What goes into the batcher and what comes out: tickets, rows, batches, and why a batch was closed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar

from shunter.storage.job import Claim, Priority


class CloseReason(StrEnum):
    """Why a batch was closed."""

    FULL = "full"
    """It has as many rows as are best, by measurement, or as fit."""
    TOKENS = "tokens"
    """One row more would have passed `max_tokens`."""
    BYTES = "bytes"
    """One row more would have passed `max_bytes`."""
    PADDING = "padding"
    """Enough rows waited, but unlike ones: padding them would have cost more than it saved."""
    WAIT = "wait"
    """The oldest row had waited `max_wait_s`."""
    DEADLINE = "deadline"
    """A fuller batch would have come too late for a deadline in it."""
    IDLE = "idle"
    """The model had nothing to do."""
    DRAIN = "drain"
    """The engine ends."""
    ALONE = "alone"
    """Its rows are suspects, tried by themselves."""


@dataclass(eq=False)
class Ticket:
    """What the rows of one claimed job share; `deadline` is a moment of the batcher's clock."""

    claim: Claim
    priority: Priority
    deadline: float | None = None


TicketT = TypeVar("TicketT", bound=Ticket)


class Row(NamedTuple, Generic[TicketT]):
    """One preprocessed row in line; rows of equal `key` may share a batch.

    `tokens` is its real length; 0 if the model counts none. `bytes` is what it takes; 0 if nobody asks.
    """

    ticket: TicketT
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks a row for
    value: Any
    added_at: float
    key: Hashable = None
    tokens: int = 0
    bytes: int = 0


TICKET, INDEX, VALUE = itemgetter(0), itemgetter(1), itemgetter(2)
"""Fields of a row, read without running Python for every one of many."""

new_row: Callable[[tuple[Any, ...]], Row[Any]] = partial(tuple.__new__, Row)
"""A row of its fields, all of them: what a named tuple's own constructor does takes twice as long."""


class Timing(NamedTuple):
    """How long `forward` took for a batch of `rows`, padded to `pad_to` tokens (0: no length)."""

    rows: int
    pad_to: int
    seconds: float
    bucket: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(Generic[TicketT]):
    """Rows that go through the model in one call, and how they came together.

    `bucket` names its kind, for costs and memory ceilings: short, and the same in every process. `pad_to`
    is the length to pad to (0: no lengths), `wait_s` how long the oldest row was in line, `limit` how many
    rows would have been full, `least_s` what the call surely takes (0: not known yet). `closed_at` is when
    it was closed, `owed` what that changed in what each class is owed. A `trial` has more rows than are known
    to fit in memory.
    """

    rows: Sequence[Row[TicketT]]
    reason: CloseReason
    key: Hashable
    bucket: str
    pad_to: int
    tokens: int
    padded_tokens: int
    wait_s: float
    limit: int
    least_s: float
    closed_at: float = 0.0
    owed: Sequence[float] = ()
    trial: bool = False

    @property
    def work(self) -> int:
        """What the model pays for: tokens, padding included, or rows where none are counted."""
        return self.padded_tokens or len(self.rows)
