"""Begins scorings: everything that can be refused is refused here, before work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

from shunter.producers.scoring.estimate import Estimate
from shunter.producers.scoring.file_rows import stage_listing
from shunter.producers.scoring.keys import refuse_duplicates
from shunter.producers.scoring.request import ScoringStatus, scoring_status
from shunter.producers.scoring.staging import stage
from shunter.producers.submission import check_model_name
from shunter.storage.database import Database
from shunter.storage.errors import Conflict, InvalidInput, NotFinished, ReportPending
from shunter.storage.ids import new_id, parse_item_id
from shunter.storage.model_registry import ModelRegistry
from shunter.storage.object_store import ObjectStore
from shunter.storage.scoring.destination import ERRORS, absolute_output, open_destination
from shunter.storage.scoring.formats import FILES
from shunter.storage.scoring.inspection import text_rows
from shunter.storage.scoring.reports import ReportRepository
from shunter.storage.scoring.repository import ScoringRepository
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.scoring.resolving import chunk_size, resolve
from shunter.storage.scoring.sources import Source, changes, find_sources, is_s3
from shunter.storage.scoring.spec import Scoring, Spec, fingerprint
from shunter.storage.scoring.table_sink import TableSink, is_table
from shunter.storage.worker_registry import WorkerRegistry, rows_per_s


class InputDiffers(Conflict):
    """The same question was asked before, of other files."""

    code = "input_changed"


class Scorer:
    """Satisfies Scorings with Postgres and the places that requests name."""

    def __init__(
        self, database: Database, registry: ModelRegistry, workers: WorkerRegistry, store: ObjectStore
    ) -> None:
        self._store = store
        self._repository = ScoringRepository(database)
        self._reports = ReportRepository(database)
        self._registry = registry
        self._workers = workers

    def stage(self, rows: object) -> str:
        """Raises InvalidInput, EmptyRows, Unavailable."""
        return stage(rows, self._store)

    def create(self, request: ScoringRequest) -> ScoringStatus:
        """Raises InvalidInput and its kin, NotFound, Conflict, or Unavailable."""
        model = self._registry.get(check_model_name(request.model), request.version)
        if request.compare_to is not None:
            request = replace(request, compare_to=str(self._reports_of(request.compare_to)))
        fetch_from: Sequence[str] = ()
        if request.input_format == FILES:
            request, fetch_from = stage_listing(request, self._store)
        sources = find_sources(request.input)
        workers = self._workers.present()
        spec, total_rows = resolve(
            request, model, sources, workers, store_url=self._store.url, fetch_from=fetch_from
        )
        known = self._repository.current(spec.identity())
        if known is not None and not request.force:
            return scoring_status(self._same(known, spec, sources))
        if request.check_keys:
            refuse_duplicates(sources, spec)
        return self._begin(spec, sources, total_rows)

    def retry_errors(self, id: UUID, *, output: str | None, version: int | None) -> ScoringStatus:
        """Its rows go to a folder of their own, below the earlier output if none is given."""
        if output is not None and is_table(output):
            raise InvalidInput("a retry writes files: name a directory or an s3:// place", field="output")
        earlier = self._repository.get(id)
        if not earlier.state.done:
            raise NotFinished(id, earlier.state)
        if not earlier.rows_failed:
            raise Conflict(f"no row of the scoring {id} failed: there is nothing to retry")
        model = self._registry.get(earlier.spec.model, version)
        place = earlier.spec.output
        base = place if is_s3(place) else f"file://{place}"
        spec = Spec.from_document(
            {
                **earlier.spec.document(),
                "version": model.version,
                "input": f"{base}/{ERRORS}",
                "output": absolute_output(output or f"{place}/retry-v{model.version}"),
                "retries": str(id),
                "force": False,
            }
        )
        known = self._repository.current(spec.identity())
        if known is not None:
            return scoring_status(known)
        return self._begin(spec, self._repository.sources(id), earlier.rows_failed)

    def estimate(self, request: ScoringRequest) -> Estimate:
        """What `create` would begin; stores nothing."""
        model = self._registry.get(check_model_name(request.model), request.version)
        sources = find_sources(request.input)
        workers = self._workers.present()
        if request.input_format == FILES:
            rows, exact, size = len(sources), True, chunk_size(request, model, workers)
        else:
            spec, total_rows = resolve(request, model, sources, workers, store_url=self._store.url)
            rows = text_rows(sources, spec.input_format) if total_rows is None else total_rows
            exact, size = total_rows is not None, spec.chunk_rows
        live = [worker for worker in workers if worker.live]
        return Estimate(
            model=model.name,
            version=model.version,
            files=len(sources),
            rows=rows,
            exact=exact,
            chunk_rows=size,
            workers=sum(worker.serving(model.name, model.version) is not None for worker in live),
            rows_per_s=rows_per_s(workers, model.name, model.version),
        )

    def get(self, id: UUID) -> ScoringStatus:
        return scoring_status(self._repository.get(id))

    def find(self, *, before: UUID | None = None, limit: int = 50) -> Sequence[ScoringStatus]:
        return [scoring_status(found) for found in self._repository.find(before=before, limit=limit)]

    def report(self, id: UUID) -> Mapping[str, Any]:
        return self._reports.get(self._repository.get(id)).document

    def report_page(self, id: UUID) -> str:
        return self._store.get(self._reports.get(self._repository.get(id)).page_key).decode()

    def cancel(self, id: UUID) -> ScoringStatus:
        cancelled = self._repository.cancel(id)
        open_destination(cancelled.spec.output, id).discard()
        return scoring_status(cancelled)

    def _begin(self, spec: Spec, sources: Sequence[Source], total_rows: int | None) -> ScoringStatus:
        id = new_id()
        if spec.table is not None and spec.key is not None:
            TableSink(spec.table, spec.key).check()
        if not spec.force:
            open_destination(spec.output, id).check_free()
        try:
            self._repository.create(id, spec, sources, total_rows=total_rows, force=spec.force)
        except Conflict:
            # Somebody else may have asked the same a moment ago.
            known = self._repository.current(spec.identity())
            if known is None or spec.force:
                raise
            return scoring_status(self._same(known, spec, sources))
        return self.get(id)

    def _same(self, known: Scoring, spec: Spec, sources: Sequence[Source]) -> Scoring:
        """The scoring that was asked for before, if its input is still the same."""
        if known.fingerprint == fingerprint(spec.identity(), sources):
            return known
        what = changes(self._repository.sources(known.id), sources)
        raise InputDiffers(
            f"the scoring {known.id} of this input to this output read other files: {what}. "
            "Give another output, or --force to score anew"
        )

    def _reports_of(self, id: str) -> UUID:
        """The id of a scoring whose report is there, or will be."""
        scoring = self._repository.get(parse_item_id(id)[0])
        with suppress(ReportPending):
            self._reports.get(scoring)
        return scoring.id
