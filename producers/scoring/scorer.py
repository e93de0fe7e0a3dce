"""Begins scorings: everything that can be refused is refused here, before work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from shunter.producers.scoring.estimate import Estimate
from shunter.producers.scoring.file_rows import stage_listing
from shunter.producers.scoring.inspection import choose_columns, inspect, text_rows
from shunter.producers.scoring.keys import refuse_duplicates
from shunter.producers.scoring.request import ScoringRequest, ScoringStatus, scoring_status
from shunter.producers.scoring.staging import stage
from shunter.producers.submission import check_model_name
from shunter.storage.database import Database
from shunter.storage.errors import Conflict, NotFinished
from shunter.storage.ids import new_id
from shunter.storage.model_registry import ModelRegistry, RegisteredModel
from shunter.storage.object_store import ObjectStore
from shunter.storage.scoring.destination import ERRORS, absolute_output, open_destination
from shunter.storage.scoring.formats import FILES, PARQUET, common_format
from shunter.storage.scoring.planning import chunk_rows
from shunter.storage.scoring.repository import ScoringRepository
from shunter.storage.scoring.sources import FOR_TABLES, Source, absolute, changes, find_sources, is_s3
from shunter.storage.scoring.spec import Scoring, Spec, fingerprint
from shunter.storage.scoring.table_sink import TableSink, is_table
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
        self._registry = registry
        self._workers = workers

    def stage(self, rows: object) -> str:
        """Raises InvalidInput, EmptyRows, Unavailable."""
        return stage(rows, self._store)

    def create(self, request: ScoringRequest) -> ScoringStatus:
        """Raises InvalidInput and its kin, NotFound, Conflict, or Unavailable."""
        model = self._registry.get(check_model_name(request.model), request.version)
        fetch_from: Sequence[str] = ()
        if request.input_format == FILES:
            request, fetch_from = stage_listing(request, self._store)
        sources = find_sources(request.input)
        spec, total_rows = self._resolve(request, model, sources, fetch_from)
        known = self._repository.current(spec.identity())
        if known is not None and not request.force:
            return scoring_status(self._same(known, spec, sources))
        if request.check_keys:
            refuse_duplicates(sources, spec)
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
        if request.input_format == FILES:
            rows, exact, size = len(sources), True, request.chunk_rows or self._chunk_rows(model)
        else:
            spec, total_rows = self._resolve(request, model, sources)
            rows = text_rows(sources, spec.input_format) if total_rows is None else total_rows
            exact, size = total_rows is not None, spec.chunk_rows
        live = [worker for worker in self._workers.present() if worker.live]
        return Estimate(
            model=model.name,
            version=model.version,
            files=len(sources),
            rows=rows,
            exact=exact,
            chunk_rows=size,
            workers=sum(worker.serving(model.name, model.version) is not None for worker in live),
            rows_per_s=self._rate(model),
        )

    def get(self, id: UUID) -> ScoringStatus:
        return scoring_status(self._repository.get(id))

    def find(self, *, before: UUID | None = None, limit: int = 50) -> Sequence[ScoringStatus]:
        return [scoring_status(found) for found in self._repository.find(before=before, limit=limit)]

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

    def _resolve(
        self,
        request: ScoringRequest,
        model: RegisteredModel,
        sources: Sequence[Source],
        fetch_from: Sequence[str] = (),
    ) -> tuple[Spec, int | None]:
        table = request.output if is_table(request.output) else None
        format = request.input_format or common_format(sources)
        facts = inspect(sources, format)
        carried = [name for name in (request.key, *request.keep) if name is not None]
        columns = choose_columns(request.columns or request.fetch, facts, model.config.signature, carried)
        spec = Spec(
            model=model.name,
            version=model.version,
            input=absolute(request.input),
            output=absolute_output(request.output) if table is None else "",
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
            fetch=tuple(request.fetch),
            fetch_from=tuple(fetch_from),
            table=table,
        )
        if table is not None:
            spec = replace(spec, output=self._beside_table(spec))
        return spec, facts.total_rows

    def _beside_table(self, spec: Spec) -> str:
        """Where the dataset lies that goes into a table: one place for a question."""
        return absolute_output(f"{self._store.url}/{FOR_TABLES}/{spec.identity().hex()[:32]}")

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
