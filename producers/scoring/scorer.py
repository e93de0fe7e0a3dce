"""Begins scorings: everything that can be refused is refused here, before work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from shunter.producers.scoring.estimate import Estimate
from shunter.producers.scoring.inspection import choose_columns, inspect, text_rows
from shunter.producers.scoring.request import ScoringRequest, ScoringStatus, scoring_status
from shunter.producers.scoring.staging import stage
from shunter.producers.submission import check_model_name
from shunter.storage.database import Database
from shunter.storage.errors import Conflict, NotFinished, ReportPending
from shunter.storage.ids import new_id, parse_item_id
from shunter.storage.model_registry import ModelRegistry, RegisteredModel
from shunter.storage.object_store import ObjectStore
from shunter.storage.scoring.destination import ERRORS, absolute_output, open_destination
from shunter.storage.scoring.formats import PARQUET, common_format
from shunter.storage.scoring.planning import chunk_rows
from shunter.storage.scoring.reports import ReportRepository
from shunter.storage.scoring.repository import ScoringRepository
from shunter.storage.scoring.sources import Source, absolute, changes, find_sources, is_s3
from shunter.storage.scoring.spec import Scoring, Spec, fingerprint
from shunter.storage.worker_registry import WorkerRegistry


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
        sources = find_sources(request.input)
        spec, total_rows = self._resolve(request, model, sources)
        known = self._repository.current(spec.identity())
        if known is not None and not request.force:
            return scoring_status(self._same(known, spec, sources))
        return self._begin(spec, sources, total_rows)

    def retry_errors(self, id: UUID, *, output: str | None, version: int | None) -> ScoringStatus:
        """Its rows go to a folder of their own, below the earlier output if none is given."""
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
        spec, total_rows = self._resolve(request, model, sources)
        rows = text_rows(sources, spec.input_format) if total_rows is None else total_rows
        live = [worker for worker in self._workers.present() if worker.live]
        return Estimate(
            model=model.name,
            version=model.version,
            files=len(sources),
            rows=rows,
            exact=total_rows is not None,
            chunk_rows=spec.chunk_rows,
            workers=sum(worker.serving(model.name, model.version) is not None for worker in live),
            rows_per_s=self._rate(model),
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

    def _resolve(
        self, request: ScoringRequest, model: RegisteredModel, sources: Sequence[Source]
    ) -> tuple[Spec, int | None]:
        format = request.input_format or common_format(sources)
        facts = inspect(sources, format)
        carried = [name for name in (request.key, *request.keep) if name is not None]
        columns = choose_columns(request.columns, facts, model.config.signature, carried)
        spec = Spec(
            model=model.name,
            version=model.version,
            input=absolute(request.input),
            output=absolute_output(request.output),
            input_format=format,
            output_format=request.format or PARQUET,
            columns=columns,
            key=request.key,
            keep=tuple(request.keep),
            keep_failed=request.keep_failed,
            max_errors=request.max_errors,
            priority=request.priority,
            chunk_rows=request.chunk_rows or self._chunk_rows(model),
            kinds=facts.kinds,
            force=request.force,
            compare_to=None if request.compare_to is None else str(self._reports_of(request.compare_to)),
        )
        return spec, facts.total_rows

    def _reports_of(self, id: str) -> UUID:
        """The id of a scoring whose report is there, or will be."""
        scoring = self._repository.get(parse_item_id(id)[0])
        with suppress(ReportPending):
            self._reports.get(scoring)
        return scoring.id

    def _chunk_rows(self, model: RegisteredModel) -> int:
        """Decided once, so that the same chunks come of it whoever plans them, and after any kill."""
        return chunk_rows(model.config.batching.max_rows, self._rate(model))

    def _rate(self, model: RegisteredModel) -> float:
        """The median of what the workers have measured, in rows per second; 0 if none has."""
        name = f"{model.name}:{model.version}"
        rates = [
            worker.stats[name]["rows_per_s"] for worker in self._workers.present() if name in worker.stats
        ]
        measured = sorted(rate for rate in rates if rate)
        return float(measured[len(measured) // 2]) if measured else 0.0
