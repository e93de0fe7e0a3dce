"""Removes old objects that no row names: of jobs that are gone, and of runs and submits that were killed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from shunter.storage import failpoints
from shunter.storage.job_facts import JobFactsReader
from shunter.storage.object_store import ObjectInfo, ObjectStore
from shunter.storage.results import OBJECT_PREFIXES, job_of
from shunter.storage.verification import OBJECTS_AT_ONCE, pages, unnamed

SWEEP_AFTER_S = 24 * 3600.0
"""An object is written before the row that names it; nobody takes so long in between."""


class ObjectSweep:
    """Reads the store in pages, and asks Postgres about each."""

    def __init__(
        self, reader: JobFactsReader, store: ObjectStore, *, older_than_s: float = SWEEP_AFTER_S
    ) -> None:
        self._reader = reader
        self._store = store
        self._older_than = timedelta(seconds=older_than_s)

    def run(self) -> int:
        """Sweep once; returns how many objects were removed. Raises Unavailable."""
        return sum(
            self._sweep(page)
            for prefix in OBJECT_PREFIXES
            for page in pages(self._store.list(prefix), OBJECTS_AT_ONCE)
        )

    def _sweep(self, page: Collection[ObjectInfo]) -> int:
        before = datetime.now(UTC) - self._older_than
        owners = {info.key: job_of(info.key) for info in page if info.modified <= before}
        jobs = self._reader.these({id for id in owners.values() if id is not None})
        # What is none of our keys is none of our business.
        old = [key for key, id in owners.items() if id is not None and unnamed(key, jobs.get(id))]
        if old:
            failpoints.hit("sweep.found")
            self._store.delete(old)
        return len(old)
