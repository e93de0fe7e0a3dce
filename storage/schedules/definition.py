"""What a schedule says: when its windows begin, what is scored in each, and what holds it up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from shunter.storage.errors import InvalidInput
from shunter.storage.schedules.cron import Cron
from shunter.storage.schedules.templates import render
from shunter.storage.scoring.formats import FILES, PARQUET
from shunter.storage.scoring.marks import Mark
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.scoring.table_sink import is_table

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

LONGEST_WAIT_S = 7 * 86_400.0

COMPARED_WINDOWS = 64
"""So many windows ahead are looked at for two that would write to the same output."""


class Missed(StrEnum):
    """What becomes of windows that began while nobody could fire them."""

    CATCH_UP = "catch-up"
    SKIP = "skip"
    LATEST = "latest"


class Overlap(StrEnum):
    """What becomes of a window that begins while an earlier one has not ended."""

    QUEUE = "queue"
    SKIP = "skip"


Choice = TypeVar("Choice", Missed, Overlap)


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A schedule as its author wrote it, checked at construction; InvalidInput names the field.

    The places of `request` are templates. Input that is not there yet is looked for `wait_for_input_s`
    seconds long. `finish_by` is HH:MM in the schedule's time zone, the first such time of each window. With
    `incremental`, a window scores only files that no earlier one has, and with `incremental_by`, a column,
    only rows whose value is greater than any that was scored.
    """

    cron: str
    request: ScoringRequest
    timezone: str = "UTC"
    missed: Missed = Missed.CATCH_UP
    overlap: Overlap = Overlap.QUEUE
    wait_for_input_s: float = 0.0
    finish_by: str | None = None
    may_raise_priority: bool = False
    incremental: bool = False
    incremental_by: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.wait_for_input_s <= LONGEST_WAIT_S:
            raise InvalidInput(
                f"wait_for_input_s is {self.wait_for_input_s}: give seconds, up to a week",
                field="wait_for_input_s",
            )
        if self.request.input_format == FILES or self.request.check_keys:
            raise InvalidInput(
                "a schedule scores the rows of files, and looks for no duplicate keys: "
                "leave out the format files and check_keys",
                field="input_format" if self.request.input_format == FILES else "check_keys",
            )
        if self.incremental_by is not None:
            _check_by_column(self)
        if self.finish_by is not None:
            _clock_time(self.finish_by)

    @property
    def grows(self) -> bool:
        """Whether what a window scores depends on what earlier ones have: then one runs at a time."""
        return self.incremental or self.incremental_by is not None

    @cached_property
    def windows(self) -> Cron:
        """When its windows begin."""
        return Cron(self.cron, self.timezone)

    def request_at(self, start: datetime) -> ScoringRequest:
        """What is asked in the window that begins at `start`."""
        zone = self.windows.zone
        return replace(
            self.request,
            input=render(self.request.input, start, zone, field="input"),
            output=render(self.request.output, start, zone, field="output"),
        )

    def finish_at(self, start: datetime) -> datetime | None:
        """When the window that begins at `start` is to have ended."""
        if self.finish_by is None:
            return None
        local = start.astimezone(self.windows.zone)
        wanted = datetime.combine(local.date(), _clock_time(self.finish_by), self.windows.zone)
        if wanted.astimezone(UTC) <= start:
            wanted = datetime.combine(local.date() + timedelta(days=1), wanted.time(), self.windows.zone)
        return wanted.astimezone(UTC)

    def check_places(self, now: datetime) -> None:
        """InvalidInput if a place is no template, or if two windows to come would write to the same one."""
        if self.grows and is_table(self.request.output):
            raise InvalidInput(
                "an incremental schedule writes a dataset of its own for each window: "
                "give a place with a date as output, or leave out incremental to write to a table",
                field="output",
            )
        outputs: dict[tuple[str, str], datetime] = {}
        for start in islice(self.windows.after(now), COMPARED_WINDOWS):
            request = self.request_at(start)
            # Many datasets may go into one table, by key: each of an input of its own.
            place = (request.input if is_table(request.output) else "", request.output)
            if place in outputs:
                raise InvalidInput(self._same_place(request, outputs[place], start), field="output")
            outputs[place] = start

    def document(self) -> dict[str, Any]:
        """The JSON form, as stored and as sent.

        Workers of the version before can read it unless it is incremental by a column.
        """
        document = asdict(self)
        if self.incremental_by is None:
            del document["incremental_by"]
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Definition:
        """Read the JSON form; InvalidInput."""
        return cls(
            **{
                **document,
                "request": ScoringRequest(**document["request"]),
                "missed": one_of(Missed, document["missed"], field="missed"),
                "overlap": one_of(Overlap, document["overlap"], field="overlap"),
            }
        )

    def _same_place(self, request: ScoringRequest, first: datetime, second: datetime) -> str:
        output = request.output
        if is_table(output):
            return (
                f"the windows of {first:%Y-%m-%d %H:%M} and {second:%Y-%m-%d %H:%M} UTC would both bring "
                f"{request.input} into one table: put {{window_start}} into the input"
            )
        if output == self.request.output:
            mode = "in incremental mode each window writes" if self.grows else "each window writes"
            return (
                f"output is {output!r}, without a date: {mode} a dataset of its own, so put {{date}} into it"
            )
        return (
            f"the windows of {first:%Y-%m-%d %H:%M} and {second:%Y-%m-%d %H:%M} UTC would both write to "
            f"{output}: put {{window_start}} into the output"
        )


def _check_by_column(definition: Definition) -> None:
    if definition.incremental:
        raise InvalidInput(
            "incremental is by files, and incremental_by by the rows of a column: give one of them",
            field="incremental_by",
        )
    if not definition.incremental_by or definition.request.input_format not in (None, PARQUET):
        raise InvalidInput(
            "incremental_by names a column of Parquet files: rows of text have no types to order them by; "
            "incremental skips whole files of any format",
            field="incremental_by",
        )


def _clock_time(text: str) -> time:
    found = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])", text)
    if found is None:
        raise InvalidInput(f"finish_by is {text!r}: give a time of the day, such as 06:00", field="finish_by")
    return time(int(found[1]), int(found[2]))


def one_of(kind: type[Choice], value: str, *, field: str) -> Choice:
    """The member of an enumeration that has this value; InvalidInput."""
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(member.value for member in kind)
        raise InvalidInput(f"{field} is {value!r}: it must be one of {known}", field=field) from error


def check_name(name: str) -> str:
    """The name itself, if a schedule may have it; InvalidInput."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"name is {name!r:.80}: use up to 63 lower-case letters, digits, dots, dashes and underscores",
            field="name",
        )
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A stored schedule; what is to become of every window up to `decided_until` has been decided.

    `watermark` is the greatest value of its `incremental_by` that has been scored.
    """

    id: UUID
    tenant: str
    name: str
    definition: Definition
    decided_until: datetime
    paused: bool
    backfill_paused: bool
    backfill_at_once: int
    created_at: datetime
    watermark: Mark | None = None
