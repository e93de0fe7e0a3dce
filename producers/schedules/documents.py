"""Schedules and their windows as JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from shunter.producers.schedules.request import BackfillStatus, ScheduleStatus, WindowStatus

_PLAIN = ("cause", "state", "seconds", "drift", "scoring", "output", "error", "warning")


def schedule_document(status: ScheduleStatus) -> dict[str, Any]:
    """The JSON form of a schedule's status."""
    here = f"/v1/schedules/{status.name}"
    return {
        "name": status.name,
        **status.definition,
        "watermark": status.watermark,
        "paused": status.paused,
        "next_windows": [start.isoformat() for start in status.next_windows],
        "backfill": asdict(status.backfill),
        "created_at": status.created_at.isoformat(),
        "links": {"self": here, "history": f"{here}/history"},
    }


def read_schedule_document(document: Mapping[str, Any]) -> ScheduleStatus:
    """Read what `schedule_document` made."""
    about = {"name", "watermark", "paused", "next_windows", "backfill", "created_at", "links"}
    return ScheduleStatus(
        name=document["name"],
        definition={name: value for name, value in document.items() if name not in about},
        watermark=document.get("watermark"),  # older APIs know none
        paused=document["paused"],
        next_windows=[datetime.fromisoformat(start) for start in document["next_windows"]],
        backfill=BackfillStatus(**document["backfill"]),
        created_at=datetime.fromisoformat(document["created_at"]),
    )


def window_document(status: WindowStatus) -> dict[str, Any]:
    """The JSON form of a window's status."""
    scoring = None if status.scoring is None else f"/v1/scorings/{status.scoring}"
    links = {} if scoring is None else {"scoring": scoring, "report": f"{scoring}/report"}
    return {
        "window_start": status.window_start.isoformat(),
        "rows": {"total": status.total, "succeeded": status.succeeded, "failed": status.failed},
        **{name: getattr(status, name) for name in _PLAIN},
        "links": links,
    }


def read_window_document(document: Mapping[str, Any]) -> WindowStatus:
    """Read what `window_document` made."""
    return WindowStatus(
        window_start=datetime.fromisoformat(document["window_start"]),
        **document["rows"],
        **{name: document[name] for name in _PLAIN},
    )
