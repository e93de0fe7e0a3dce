"""The Python way in: submit rows, wait, take the outputs."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence, Sized
from typing import Any, Literal, Self, TypeVar
from uuid import UUID

from shunter.producers.backend import Backend, Watch
from shunter.producers.handles import Item, Job, open_handle
from shunter.producers.mapping import DEFAULT_WINDOW, MappedRows, OnRowFailure
from shunter.producers.rows import each_row
from shunter.producers.schedules.handle import Schedule
from shunter.producers.scoring.handle import Scoring
from shunter.producers.showing import counted
from shunter.producers.submission import Options
from shunter.storage import failpoints
from shunter.storage.errors import InvalidInput, NotRedrivable, SettingsError, WaitTimeout
from shunter.storage.ids import parse_item_id
from shunter.storage.schedules.definition import Definition, Missed, Overlap, check_name, one_of
from shunter.storage.scoring.request import ScoringRequest
from shunter.storage.settings import Settings, redact

Handle = TypeVar("Handle", Job, Item, Job | Item)

PriorityName = Literal["interactive", "standard", "bulk"]
MissedName = Literal["catch-up", "skip", "latest"]
OverlapName = Literal["queue", "skip"]


class Client:
    """Submits rows to the fleet and fetches their outputs; safe for threads, and after a fork.

    Args:
        url: the HTTP API to go through, such as `http://localhost:8000`. Without it, the client talks to
            Postgres, Redis and the object store that the SHUNTER_ variables name (`shunter env` prints
            them), or to SHUNTER_API_URL if only that is set.
        api_key: the key that the API asks for; SHUNTER_API_KEY if left out.
        settings: used in place of the environment.

    Example:
        >>> with Client() as client:
        ...     client.submit("sentiment", ["fine", "awful"]).outputs()
        ['positive', 'negative']
    """

    def __init__(
        self, url: str | None = None, *, api_key: str | None = None, settings: Settings | None = None
    ) -> None:
        self._open, self._where = _opener(url, api_key, settings or Settings.from_environment())
        self._lock = threading.Lock()
        self._opened: Backend | None = None
        self._closed = False
        _begin_anew_after_fork(self)

    def submit(
        self,
        model: str,
        rows: object,
        *,
        version: int | None = None,
        priority: PriorityName = "standard",
        deadline_s: float | None = None,
        idempotency_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Job:
        """Submit rows as one job; when this returns, they are stored and will be run.

        Args:
            model: the name of a registered model.
            rows: a list of rows, each a JSON value, bytes, an array or a tensor; a DataFrame or Arrow table
                gives one dict per row.
            version: the model version; the highest registered one if left out.
            priority: "interactive", "standard" or "bulk".
            deadline_s: seconds from now by which it must have finished; it expires otherwise.
            idempotency_key: a second submit under the same key returns the first one's job.
            metadata: a JSON object kept with the job.

        Raises:
            InvalidInput: the rows or options cannot be accepted (EmptyRows, TooLarge, UnknownModel).
            IdempotencyConflict: the key was used for something else.
            Unavailable: try again later, with an idempotency key if it must not be accepted twice.
        """
        options = Options(
            version=version,
            priority=priority,
            deadline_s=deadline_s,
            idempotency_key=idempotency_key,
            metadata=metadata,
        )
        return Job(self, self.backend.submit(model, rows, options).id)

    def submit_many(
        self,
        model: str,
        rows: object,
        *,
        version: int | None = None,
        priority: PriorityName = "standard",
        deadline_s: float | None = None,
        idempotency_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[Item]:
        """Submit many independent rows, each with an id and an end of its own; takes generators too.

        The rows share jobs, up to 256 to one, which a fleet takes far faster than a job for each.
        The arguments are those of `submit`, but for `idempotency_key`, which must be None.
        """
        options = Options(
            version=version,
            priority=priority,
            deadline_s=deadline_s,
            idempotency_key=idempotency_key,
            metadata=metadata,
        )
        accepted = self.backend.submit_many(model, rows, options)
        return [Item(self, job.id, index) for job in accepted for index in range(job.rows)]

    def submit_jobs(
        self,
        model: str,
        jobs: object,
        *,
        version: int | None = None,
        priority: PriorityName = "standard",
        deadline_s: float | None = None,
        idempotency_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[Job]:
        """Submit a job for each list of rows, all or none; far faster than as many calls of `submit`.

        Each is a job of its own, with its state, its cancellation and its end. Where rows need no more
        than an id and a result, `submit_many` is faster still. The arguments are those of `submit`, but
        for `idempotency_key`, which must be None.
        """
        options = Options(
            version=version,
            priority=priority,
            deadline_s=deadline_s,
            idempotency_key=idempotency_key,
            metadata=metadata,
        )
        return [Job(self, accepted.id) for accepted in self.backend.submit_jobs(model, jobs, options)]

    def map(
        self,
        model: str,
        rows: object,
        *,
        window: int = DEFAULT_WINDOW,
        errors: OnRowFailure = "raise",
        version: int | None = None,
        priority: PriorityName = "standard",
        deadline_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        progress: bool = False,
    ) -> Generator[object, None, None]:
        """Run a model over any number of rows; yields the outputs in order, in bounded memory.

        Nothing is submitted before the first output is asked for. Closing the iterator, or an error,
        cancels what is still under way.

        Args:
            window: rows under way at once.
            errors: "raise" raises RowsFailed or JobFailed at the first failed row; "return" yields
                a RowFailure, whose index counts all rows, in its place.
            progress: show a bar that counts the outputs, in a notebook too.
        """
        options = Options(version=version, priority=priority, deadline_s=deadline_s, metadata=metadata)
        source, backend = each_row(rows), self.backend
        mapped = MappedRows(
            backend, lambda burst: backend.submit_many(model, burst, options), window=window, errors=errors
        )
        if not progress:
            return mapped.run(source)
        total = len(rows) if isinstance(rows, Sized) else None
        return counted(mapped.run(source), "rows", total)

    def score(
        self,
        model: str,
        input: object,
        output: str | os.PathLike[str],
        *,
        query: str | None = None,
        columns: Sequence[str] = (),
        key: str | None = None,
        keep: Sequence[str] = (),
        fetch: Sequence[str] = (),
        version: int | None = None,
        format: str = "parquet",
        input_format: str | None = None,
        max_errors: int | str | None = None,
        keep_failed: bool = False,
        priority: PriorityName = "bulk",
        chunk_rows: int | None = None,
        check_keys: bool = False,
        force: bool = False,
        compare_to: str | UUID | None = None,
    ) -> Scoring:
        """Run a model over a dataset; the fleet reads it, writes another, and accounts for every row.

        The same call again is the same scoring. Places must be reachable by the workers as well.

        Args:
            input: a file, a directory, a glob or an `s3://` prefix of Parquet, JSONL or CSV files; or
                rows, as an Arrow table or an iterable of dicts, which are staged in the object store first.
            query: SQL, with the URL of a Postgres as the input: its rows are staged, all of one snapshot.
            output: a directory or `s3://` prefix that does not exist yet; it appears when it is whole.
            columns: what a row is made of: one gives the bare value, several a dict, none the model's
                declared inputs, or whatever is neither key nor kept.
            key: a column that names the rows, in the output and in the errors files.
            keep: further columns to carry to the output.
            fetch: columns of URLs; workers read the objects, below the prefixes that their settings allow.
            format: "parquet", "jsonl" or "csv".
            input_format: if names do not tell it; "files" makes each file a row of `path` and `bytes`.
            max_errors: how many rows may fail, as a number or a share such as "2.5%", before all is stopped.
            keep_failed: keep failed rows in the output, with null predictions.
            chunk_rows: rows to a chunk; chosen by the model's measured rate if left out.
            check_keys: refuse an input in which two rows have one key, after reading that column.
            force: score anew, and replace what is at the output.
            compare_to: the scoring whose columns its own are compared with; the last one of this model to
                the same output, but for digits in it, if left out.

        Raises:
            InvalidInput: the input cannot be scored so (UnreadableInput, EmptyRows, UnknownModel).
            Conflict: something is at the output, or the input has changed since the same call.
            Unavailable: try again later.
        """
        request = ScoringRequest(
            model=model,
            input=self._input_place(input, query),
            output=os.fspath(output),
            version=version,
            columns=columns,
            key=key,
            keep=keep,
            fetch=fetch,
            format=format,
            input_format=input_format,
            max_errors=None if max_errors is None else str(max_errors),
            keep_failed=keep_failed,
            priority=priority,
            chunk_rows=chunk_rows,
            check_keys=check_keys,
            force=force,
            compare_to=None if compare_to is None else str(compare_to),
        )
        return Scoring(self, UUID(self.backend.scorings.create(request).id))

    def _input_place(self, input: Any, query: str | None) -> str:
        if query is not None:
            from shunter.producers.scoring.staging import query_rows  # noqa: PLC0415 - needs pyarrow

            input = query_rows(input, query)
        if isinstance(input, str | os.PathLike):
            return os.fspath(input)
        return self.backend.scorings.stage(input)

    def retry_errors(
        self,
        id: str | UUID,
        *,
        output: str | os.PathLike[str] | None = None,
        version: int | None = None,
    ) -> Scoring:
        """Run the failed rows of an ended scoring again, as a scoring of its own, by the newest version.

        Without an output its rows go to a folder below the earlier one. Raises UnknownScoring, Conflict.
        """
        place = None if output is None else os.fspath(output)
        earlier = parse_item_id(str(id))[0]
        begun = self.backend.scorings.retry_errors(earlier, output=place, version=version)
        return Scoring(self, UUID(begun.id))

    def scoring(self, id: str | UUID) -> Scoring:
        """The handle of a scoring by its id; asks nobody yet. InvalidInput if it is no id."""
        return Scoring(self, parse_item_id(str(id))[0])

    def add_schedule(
        self,
        name: str,
        request: ScoringRequest,
        *,
        cron: str,
        timezone: str = "UTC",
        missed: MissedName = "catch-up",
        overlap: OverlapName = "queue",
        wait_for_input_s: float = 0.0,
        finish_by: str | None = None,
        may_raise_priority: bool = False,
        incremental: bool = False,
        incremental_by: str | None = None,
    ) -> Schedule:
        """Score a dataset in each window of a cron line, from now on; the same call again finds the same.

        Args:
            request: what is scored, with the arguments of `score`; `{date}` in its places is the window's.
            cron: five fields: minute, hour, day, month, weekday.
            timezone: an IANA name; the cron line and `{date}` are of this zone.
            missed: "catch-up", "skip" or, of several, only the "latest": what becomes of windows that began
                while no worker was there.
            overlap: "queue" or "skip": what becomes of one that begins while an earlier one is under way.
            wait_for_input_s: look so many seconds for input that is missing, before the window fails.
            finish_by: HH:MM in the time zone: warn when the measured rate says that it will be later.
            may_raise_priority: and let the rest go as standard instead of bulk then.
            incremental: score only files that no earlier window has.
            incremental_by: score only rows whose value in this column is greater than any scored before.

        Raises:
            InvalidInput: the line never fires, the zone is unknown, two windows would write to one place.
            Conflict: a schedule of this name says something else.
        """
        definition = Definition(
            cron=cron,
            request=request,
            timezone=timezone,
            missed=one_of(Missed, missed, field="missed"),
            overlap=one_of(Overlap, overlap, field="overlap"),
            wait_for_input_s=wait_for_input_s,
            finish_by=finish_by,
            may_raise_priority=may_raise_priority,
            incremental=incremental,
            incremental_by=incremental_by,
        )
        return Schedule(self, self.backend.schedules.add(name, definition).name)

    def schedule(self, name: str) -> Schedule:
        """The handle of a schedule by its name; asks nobody yet. InvalidInput if it is no name."""
        return Schedule(self, check_name(name))

    def job(self, id: str | UUID) -> Job | Item:
        """The handle of a job or an item by its id; asks nobody yet. InvalidInput if it is no id."""
        return open_handle(self, *parse_item_id(str(id)))

    def jobs(self, ids: Iterable[str | UUID]) -> list[Job | Item]:
        """The handles of several ids, in their order."""
        return [self.job(id) for id in ids]

    def redrive(self, id: str | UUID, *, version: int | None = None, again: bool = False) -> Job:
        """Run the failed rows of a finished job again, as a new job that holds only them, in their order.

        A second redrive of the same job to the same version returns the first one's job.

        Args:
            id: a failed job, or one that succeeded with failed rows.
            version: the model version that is to run them; the job's own if left out.
            again: submit another job, even if there is one.

        Raises:
            UnknownJob: there is no such job.
            Conflict: it has not ended, no row of it failed, or `id` is an item's.
            InvalidInput: there is no such version, or it does not take these rows.
        """
        job_id, index = parse_item_id(str(id))
        if index is not None:
            raise NotRedrivable(id, f"it is one row of job {job_id}: redrive that, its failed rows run again")
        return Job(self, self.backend.redrive(job_id, version=version, again=again).id)

    def as_completed(
        self, handles: Iterable[Handle], timeout: float | None = None
    ) -> Generator[Handle, None, None]:
        """Yield each handle when it has ended, well or not, in the order of their ends.

        Raises:
            WaitTimeout: some had not ended `timeout` seconds after the first was asked for.
        """
        waiting: dict[UUID, list[Handle]] = {}
        for handle in handles:
            waiting.setdefault(handle.job_id, []).append(handle)
        deadline = None if timeout is None else time.monotonic() + timeout
        watch = self.backend.watch()
        try:
            watch.add(waiting)
            while waiting:
                for id in _next_before(watch, deadline, left=len(waiting)):
                    yield from waiting.pop(id)
        finally:
            watch.close()

    def close(self) -> None:
        """Close its connections; its handles cannot be used any more."""
        with self._lock:
            backend, self._opened, self._closed = self._opened, None, True
        if backend is not None:
            backend.close()

    @property
    def backend(self) -> Backend:
        """What the handles work with: connected when first used, anew in each process."""
        return self._opened or self._connected()

    def _connected(self) -> Backend:
        with self._lock:
            if self._closed:
                raise InvalidInput(f"{self!r} is closed: make a new Client")
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._where!r})"

    def _forget(self) -> None:
        """Drop what belongs to the parent of a fork, without closing it."""
        self._lock = threading.Lock()
        self._opened = None


def _opener(url: str | None, api_key: str | None, settings: Settings) -> tuple[Callable[[], Backend], str]:
    """How to connect, and where to."""
    if url is None and settings.api_url and not settings.database_url:
        url = settings.api_url
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise SettingsError(
                f"{redact(url)!r} is no URL of an HTTP API: give http://host:port, or nothing at all, to use "
                "what SHUNTER_DATABASE_URL and SHUNTER_REDIS_URL name",
                field="url",
            )
        return lambda: _open_http(url, api_key or settings.api_key), redact(url)
    settings.require("database_url", "redis_url", "object_store")
    return lambda: _open_direct(settings), redact(settings.database_url)


def _open_http(url: str, api_key: str) -> Backend:
    from shunter.producers.http import HttpBackend  # noqa: PLC0415 - either backend is slow to import

    return HttpBackend(url, api_key=api_key)


def _open_direct(settings: Settings) -> Backend:
    from shunter.producers.direct import DirectBackend  # noqa: PLC0415 - either backend is slow to import

    failpoints.arm()
    return DirectBackend(settings)


def _begin_anew_after_fork(client: Client) -> None:
    reference = weakref.ref(client)

    def in_child() -> None:
        alive = reference()
        if alive is not None:
            alive._forget()

    os.register_at_fork(after_in_child=in_child)


def _next_before(watch: Watch, deadline: float | None, *, left: int) -> Iterable[UUID]:
    timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
    finished = watch.next(timeout)
    if not finished:
        raise WaitTimeout(f"{left} jobs have not finished in time: they go on, wait again")
    return finished
