"""What a hub reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shunter.storage.job_repository import JobRepository
from shunter.storage.memory_ceilings import MemoryCeilings
from shunter.storage.quarantine import Quarantine
from shunter.storage.worker_registry import WorkerRegistry
from shunter.workers.adopter import Adopter
from shunter.workers.lists import Lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Handed to a hub whole, so that it hands each part on to the thread that needs it."""

    repository: JobRepository
    registry: WorkerRegistry
    quarantine: Quarantine
    adopter: Adopter
    ceilings: MemoryCeilings
    lists: Lists
    object_store: str
    chunk_ended: Callable[[], None]
    """Called when a scoring may go on."""
