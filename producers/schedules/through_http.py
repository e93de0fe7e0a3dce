"""Schedules through the HTTP API."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from shunter.producers.schedules.documents import read_schedule_document, read_window_document
from shunter.producers.schedules.request import DateRange, ScheduleStatus, WindowStatus
from shunter.storage.schedules.definition import Definition, check_name


class HttpSchedules:
    """Satisfies Schedules by requests to the API."""

    def __init__(self, request: Callable[..., Any]) -> None:
        self._request = request

    def add(self, name: str, definition: Definition) -> ScheduleStatus:
        body = {"name": check_name(name), **definition.document()}
        return read_schedule_document(self._request("POST", "/v1/schedules", json=body))

    def find(self, *, after: str = "", limit: int = 50) -> Sequence[ScheduleStatus]:
        params = {"limit": limit, **({"cursor": after} if after else {})}
        answer = self._request("GET", "/v1/schedules", params=params)
        return [read_schedule_document(document) for document in answer["schedules"]]

    def get(self, name: str) -> ScheduleStatus:
        return read_schedule_document(self._request("GET", _path(name)))

    def pause(self, name: str, *, paused: bool, backfill_only: bool = False) -> ScheduleStatus:
        part = "/backfill" if backfill_only else ""
        what = "pause" if paused else "resume"
        return read_schedule_document(self._request("POST", f"{_path(name)}{part}/{what}"))

    def run(self, name: str, *, window: datetime | None = None, again: bool = False) -> WindowStatus:
        body = {"window": None if window is None else window.isoformat(), "again": again}
        return read_window_document(self._request("POST", f"{_path(name)}/run", json=body))

    def backfill(self, name: str, days: DateRange, *, at_once: int = 1) -> int:
        body = {"from": days.first.isoformat(), "to": days.last.isoformat(), "at_once": at_once}
        return int(self._request("POST", f"{_path(name)}/backfill", json=body)["windows"])

    def history(
        self, name: str, *, before: datetime | None = None, limit: int = 50
    ) -> Sequence[WindowStatus]:
        params = {"limit": limit, **({} if before is None else {"cursor": math.ceil(before.timestamp())})}
        answer = self._request("GET", f"{_path(name)}/history", params=params)
        return [read_window_document(document) for document in answer["windows"]]

    def remove(self, name: str) -> None:
        self._request("DELETE", _path(name))


def _path(name: str) -> str:
    return f"/v1/schedules/{quote(name, safe='')}"
