"""How a model version may stand on a worker."""

from __future__ import annotations

from enum import StrEnum


class ServingState(StrEnum):
    """How a model version stands on a worker."""

    IDLE = "idle"
    """No engine: its first job starts one."""
    WAITING_FOR_MEMORY = "waiting_for_memory"
    """No engine, because others fill the memory: it gets the place that becomes free when it is its turn."""
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    """Its engine finishes what it has begun, and makes room."""
    FAILED = "failed"
