"""The Python client against real services, directly and through the HTTP API: one suite for both."""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from shunter import (
    AlreadyFinished,
    Client,
    EmptyRows,
    IdempotencyConflict,
    InvalidInput,
    Item,
    ItemNotCancellable,
    Job,
    JobFailed,
    NotFound,
    RowFailure,
    RowsFailed,
    SettingsError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownJob,
    UnknownModel,
    WaitTimeout,
)
from shunter.producers.api import create_app
from shunter.storage.database import Database
from shunter.storage.ids import new_id
from shunter.storage.job import JobState
from shunter.storage.job_repository import JobRepository
from shunter.storage.settings import MAX_JOB_ROWS, Settings
from tests.api_server import serving
from tests.fake_worker import FakeWorker, echo, register_models
from tests.waiting import wait_until

Connect = Callable[[], Client]

PATIENCE_S = 20.0


def unlike_json(row: Any) -> Any:
    """Not a number, for a row of 0."""
    return row if row else math.nan


FUNCTIONS = {"echo": echo, "negate": lambda row: -row, "unlike_json": unlike_json}


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    settings = Settings(database_url=database_url, redis_url=redis_url, object_store=f"file://{tmp_path}")
    register_models(settings, *FUNCTIONS)
    return settings


@pytest.fixture(params=["direct", "http"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connect(mode: str, settings: Settings) -> Iterator[Connect]:
    """Makes clients of one mode, and closes them."""
    with ExitStack() as stack:
        server: AbstractContextManager[str | None] = (
            serving(create_app(settings)) if mode == "http" else nullcontext()
        )
        url = stack.enter_context(server)
        yield lambda: stack.enter_context(Client(url, settings=settings))


@pytest.fixture
def client(connect: Connect) -> Client:
    return connect()


@pytest.fixture
def worker(settings: Settings) -> Iterator[FakeWorker]:
    with FakeWorker(settings, FUNCTIONS) as worker:
        yield worker


@pytest.mark.usefixtures("worker")
class TestOutputs:
    def test_outputs_come_in_the_order_of_the_rows(self, client: Client) -> None:
        assert client.submit("negate", [3, 1, 2]).outputs() == [-3, -1, -2]

    def test_any_json_value_and_bytes_travel(self, client: Client) -> None:
        rows = [None, True, 7, 2.5, "text", [1, [2]], {"a": None}, b"\x00\xff", "\x00", ""]
        outputs = client.submit("echo", rows).outputs()
        assert outputs == rows
        assert [type(output) for output in outputs] == [type(row) for row in rows]

    def test_large_rows_travel_through_the_object_store(self, client: Client) -> None:
        rows = ["x" * 300_000, "y" * 300_000]
        assert client.submit("echo", rows).outputs() == rows

    def test_a_table_gives_one_dict_per_row(self, client: Client) -> None:
        class Table:
            schema = "a: int64"

            def to_pylist(self) -> list[dict[str, int]]:
                return [{"a": 1}, {"a": 2}]

        assert client.submit("echo", Table()).outputs() == [{"a": 1}, {"a": 2}]

    def test_a_bad_row_fails_alone(self, client: Client) -> None:
        job = client.submit("echo", ["a", {"fail": "too_long"}, None])
        with pytest.raises(RowsFailed, match="1 of 3 rows") as raised:
            job.outputs()
        assert raised.value.outputs == ["a", None, None]
        assert raised.value.errors == job.errors()
        assert [(error.index, error.code) for error in job.errors()] == [(1, "too_long")]
        assert job.outputs(errors="none") == ["a", None, None]
        assert job.status().state == "succeeded"

    def test_a_job_without_any_output_has_failed(self, client: Client) -> None:
        job = client.submit("echo", [{"fail": "broken"}, {"fail": "broken"}])
        with pytest.raises(JobFailed, match="broken") as raised:
            job.outputs()
        assert raised.value.job_id == job.id
        assert raised.value.state == "failed"
        assert [error.index for error in job.errors()] == [0, 1]
        assert job.outputs(errors="none") == [None, None]

    def test_a_timeline_tells_of_a_job_from_its_submission_to_its_end(self, client: Client) -> None:
        job = client.submit("echo", [1, 2])
        job.wait(PATIENCE_S)
        events = job.timeline()
        assert [event.what for event in events] == ["submitted", "claimed", "forward", "settled"]
        assert [event.at for event in events] == sorted(event.at for event in events)
        assert "by fake@here" in events[1].detail
        with pytest.raises(UnknownJob):
            client.job(new_id()).timeline()

    def test_the_last_status_tells_everything(self, client: Client) -> None:
        job = client.submit("echo", [1, {"fail": "x"}], priority="bulk", metadata={"run": 7})
        status = job.wait(PATIENCE_S)
        assert status.done
        assert (status.id, status.model, status.version) == (job.id, "echo", 1)
        assert (status.rows.total, status.rows.succeeded, status.rows.failed) == (2, 1, 1)
        assert (status.priority, status.metadata, status.waiting) == ("bulk", {"run": 7}, None)
        assert status.started_at is not None
        assert status.finished_at is not None
        assert status.created_at <= status.started_at <= status.finished_at


@pytest.mark.usefixtures("worker")
class TestManyJobs:
    def test_each_is_a_job_of_its_own(self, client: Client) -> None:
        jobs = client.submit_jobs("negate", ([number] * (1 + number % 3) for number in range(40)))
        assert [job.outputs() for job in jobs] == [[-number] * (1 + number % 3) for number in range(40)]
        assert len({job.id for job in jobs}) == 40

    @pytest.mark.parametrize("others", [[], [[np.arange(2.0)]], [["a"]], [[np.zeros(3), np.ones(3)]]])
    def test_each_of_one_array_has_its_own_row(self, client: Client, others: list[list[Any]]) -> None:
        submitted = [*([np.full(3, number, np.float32)] for number in range(5)), *others]
        jobs = client.submit_jobs("echo", submitted)
        for job, rows in zip(jobs, submitted, strict=True):
            # By way of HTTP they come back as lists.
            np.testing.assert_array_equal(np.array(job.outputs()), np.array(rows))

    def test_one_that_is_no_job_is_named_and_none_is_left_to_run(self, client: Client) -> None:
        for rows, refusal in (("text", r"job 1: .*`\[row\]`"), ([], "job 1: there are no rows")):
            with pytest.raises(InvalidInput, match=refusal):
                client.submit_jobs("echo", [["a"], rows])
        with pytest.raises(InvalidInput, match="give one to each submit"):
            client.submit_jobs("echo", [["a"]], idempotency_key="k")


@pytest.mark.usefixtures("worker")
class TestItems:
    def test_each_row_has_an_id_and_an_end_of_its_own(self, client: Client) -> None:
        good, bad = client.submit_many("echo", ["a", {"fail": "too_long"}])
        assert good.output() == "a"
        assert (good.wait().state, good.wait().rows.total) == ("succeeded", 1)
        assert bad.wait().state == "failed"
        assert bad.errors() == [RowFailure(0, "too_long", "the row asked to fail: too_long")]
        with pytest.raises(JobFailed, match="too_long"):
            bad.output()

    def test_items_keep_their_order_over_many_jobs(self, client: Client) -> None:
        items = client.submit_many("negate", (number for number in range(1000)))
        assert [item.output() for item in items] == [-number for number in range(1000)]
        assert len({item.job_id for item in items}) == 16

    def test_an_item_is_found_again_by_its_id(self, connect: Connect) -> None:
        items = connect().submit_many("echo", ["a", "b"])
        again = connect().job(items[1].id)
        assert isinstance(again, Item)
        assert again == items[1]
        assert again.output() == "b"
        assert repr(again) == f"Item({items[1].id!r})"

    def test_an_item_cannot_be_cancelled(self, client: Client) -> None:
        (item,) = client.submit_many("echo", ["a"])
        with pytest.raises(ItemNotCancellable) as refusal:
            item.cancel()
        assert refusal.value.job_id == str(item.job_id)

    def test_a_row_beyond_the_last_is_unknown(self, client: Client) -> None:
        job = client.submit("echo", ["a"])
        beyond = client.job(f"{job.id}.1")
        assert isinstance(beyond, Item)
        for question in (beyond.status, beyond.wait, beyond.output, beyond.errors):
            with pytest.raises(UnknownJob, match=r"\.1"):
                question()


class TestWaiting:
    def test_a_wait_ends_when_its_time_is_up_and_the_job_goes_on(
        self, client: Client, settings: Settings
    ) -> None:
        job = client.submit("echo", ["a"])
        with pytest.raises(WaitTimeout, match="it goes on"):
            job.wait(0.05)
        with FakeWorker(settings):
            assert job.wait(PATIENCE_S).state == "succeeded"

    def test_a_job_that_nobody_serves_says_so(self, client: Client) -> None:
        waiting = client.submit("echo", ["a"]).status().waiting
        assert waiting is not None
        assert waiting.code == "no_worker"

    def test_a_job_that_no_worker_could_read_names_the_migration_that_is_missing(
        self, client: Client, database: Database
    ) -> None:
        job = client.submit("echo", ["a"])
        with database.transaction() as cursor:
            cursor.execute("UPDATE alembic_version SET version_num = '0001'")
        waiting = job.status().waiting
        assert waiting is not None
        assert waiting.code == "schema_mismatch"
        assert "at migration 0001" in waiting.message

    def test_a_job_in_line_says_how_many_rows_are_ahead(self, client: Client, worker: FakeWorker) -> None:
        worker.gate.clear()
        held = client.submit("echo", [1])
        wait_until(lambda: held.status().state == "running")
        client.submit("echo", [1, 2, 3])
        waiting = client.submit("echo", [1]).status().waiting
        assert waiting is not None
        assert (waiting.code, waiting.message) == ("in_line", "3 rows are ahead of it")

    def test_handles_are_yielded_in_the_order_of_their_ends(self, client: Client, worker: FakeWorker) -> None:
        worker.gate.clear()
        first = client.submit("echo", ["slow"])
        wait_until(lambda: first.status().state == "running")
        second = client.submit("echo", ["cancelled"])
        second.cancel()
        handles = client.as_completed([first, second, first], timeout=PATIENCE_S)
        assert next(handles) == second
        worker.gate.set()
        assert list(handles) == [first, first]

    def test_the_wait_for_several_ends_when_its_time_is_up(self, client: Client) -> None:
        items = client.submit_many("echo", ["a", "b"])
        with pytest.raises(WaitTimeout):
            next(client.as_completed(items, timeout=0.05))

    @pytest.mark.usefixtures("worker")
    def test_items_of_many_jobs_are_all_yielded(self, client: Client) -> None:
        items = client.submit_many("echo", range(500))
        assert set(client.as_completed(items, timeout=PATIENCE_S)) == set(items)


class TestHandles:
    @pytest.mark.usefixtures("worker")
    def test_a_job_is_found_again_by_its_id(self, connect: Connect) -> None:
        job = connect().submit("echo", ["a"])
        by_text, by_uuid = connect().jobs([job.id, UUID(job.id)])
        assert by_text == by_uuid == job
        assert isinstance(by_text, Job)
        assert by_text.outputs() == ["a"]
        assert repr(job) == f"Job({job.id!r})"

    def test_an_unknown_job_is_told_as_such(self, client: Client) -> None:
        unknown = client.job(new_id())
        for question in (unknown.status, unknown.wait, unknown.outputs, unknown.errors, unknown.cancel):
            with pytest.raises(UnknownJob):
                question()
        with pytest.raises(UnknownJob):
            list(client.as_completed([unknown]))

    @pytest.mark.parametrize("id", ["", "7", "none", f"{UUID(int=1)}.x", f"{UUID(int=1)}.-1"])
    def test_what_is_no_id_is_refused(self, client: Client, id: str) -> None:
        with pytest.raises(InvalidInput, match="is no id"):
            client.job(id)

    def test_a_queued_job_is_cancelled(self, client: Client) -> None:
        job = client.submit("echo", ["a"])
        assert job.cancel().state == "cancelled"
        assert job.cancel().state == "cancelled"
        assert job.wait().done
        with pytest.raises(JobFailed, match="cancelled"):
            job.outputs()

    def test_a_running_job_is_cancelled(self, client: Client, worker: FakeWorker) -> None:
        worker.gate.clear()
        job = client.submit("echo", ["a"])
        wait_until(lambda: job.status().state == "running")
        assert job.cancel().state == "cancelled"
        worker.gate.set()
        assert job.wait(PATIENCE_S).state == "cancelled"

    @pytest.mark.usefixtures("worker")
    def test_a_finished_job_cannot_be_cancelled(self, client: Client) -> None:
        job = client.submit("echo", ["a"])
        job.wait(PATIENCE_S)
        with pytest.raises(AlreadyFinished, match="already succeeded"):
            job.cancel()


class TestMap:
    @pytest.mark.usefixtures("worker")
    def test_outputs_come_in_order_whatever_the_window(self, client: Client) -> None:
        for window in (1, 7, 100, 5000):
            count = 20 if window < 10 else 1500
            outputs = client.map("negate", iter(range(count)), window=window)
            assert list(outputs) == [-number for number in range(count)]

    def test_no_more_than_a_window_of_rows_is_taken_ahead(self, client: Client, worker: FakeWorker) -> None:
        taken = 0

        def rows() -> Iterator[int]:
            nonlocal taken
            for number in range(400):
                taken += 1
                yield number

        outputs = client.map("echo", rows(), window=100)
        for number, output in enumerate(outputs):
            assert output == number
            assert taken - number <= 100
        assert taken == 400

    @pytest.mark.usefixtures("worker")
    def test_failures_can_be_returned_in_their_place(self, client: Client) -> None:
        rows: list[object] = [{"fail": "odd"} if number % 10 == 9 else number for number in range(30)]
        outputs = list(client.map("echo", rows, window=8, errors="return"))
        failures = [output for output in outputs if isinstance(output, RowFailure)]
        assert [(failure.index, failure.code) for failure in failures] == [
            (9, "odd"),
            (19, "odd"),
            (29, "odd"),
        ]
        assert outputs[10:19] == list(range(10, 19))

    @pytest.mark.usefixtures("worker")
    def test_a_failure_is_raised_in_its_place(self, client: Client) -> None:
        outputs = client.map("echo", ["a", {"fail": "odd"}, "c"])
        assert next(outputs) == "a"
        with pytest.raises(RowsFailed, match="odd"):
            next(outputs)

    def test_closing_it_cancels_what_is_under_way(self, client: Client, settings: Settings) -> None:
        outputs = client.map("echo", range(64), window=64, errors="return")
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(next, outputs)
            wait_until(lambda: len(queued_jobs(settings)) == 8)
            client.job(queued_jobs(settings)[0]).cancel()
            assert asked.result(PATIENCE_S) == RowFailure(0, "cancelled", "the job was cancelled")
        outputs.close()
        assert queued_jobs(settings) == []

    def test_bad_options_are_refused_at_once(self, client: Client) -> None:
        options: list[dict[str, Any]] = [
            {"window": 0},
            {"window": True},
            {"window": "8"},
            {"errors": "ignore"},
        ]
        for bad in options:
            with pytest.raises(InvalidInput):
                client.map("echo", [1], **bad)

    def test_no_rows_give_no_outputs(self, client: Client) -> None:
        assert list(client.map("echo", [])) == []


class TestSubmission:
    def test_the_same_key_and_body_give_the_same_job(self, client: Client) -> None:
        first = client.submit("echo", [1, b"2"], idempotency_key="nightly ü", metadata={"a": 1})
        again = client.submit("echo", [1, b"2"], idempotency_key="nightly ü", metadata={"a": 1})
        assert first == again

    def test_the_same_key_with_another_body_is_a_conflict(self, client: Client) -> None:
        body: dict[str, Any] = {"model": "echo", "rows": [1], "idempotency_key": "k"}
        job = client.submit(**body)
        changes = {"rows": [2], "model": "negate", "priority": "bulk", "metadata": {}, "version": 1}
        for name, value in changes.items():
            with pytest.raises(IdempotencyConflict, match="use a new key") as conflict:
                client.submit(**{**body, name: value})
            assert (conflict.value.job_id, conflict.value.key) == (job.id, "k")

    def test_concurrent_submits_with_one_key_make_one_job(self, client: Client) -> None:
        def submit(_: int) -> Job:
            return client.submit("echo", [1], idempotency_key="k")

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(submit, range(16)))) == 1

    @pytest.mark.parametrize("method", ["submit", "submit_many", "map"])
    def test_a_single_value_as_rows_is_refused_with_the_remedy(self, client: Client, method: str) -> None:
        for rows in ("text", b"x", {"a": 1}, 1, 1.5, None, True):
            with pytest.raises(InvalidInput, match=r"`\[row\]`"):
                getattr(client, method)("echo", rows)

    def test_no_rows_are_refused(self, client: Client) -> None:
        with pytest.raises(EmptyRows):
            client.submit("echo", [])

    def test_too_many_rows_are_refused_with_the_remedy(self, client: Client) -> None:
        with pytest.raises(TooLarge, match="use map"):
            client.submit("echo", [0] * (MAX_JOB_ROWS + 1))

    def test_an_unknown_model_is_named_with_the_nearest(self, client: Client) -> None:
        with pytest.raises(UnknownModel, match="ecoh") as refusal:
            client.submit("ecoh", [1])
        assert refusal.value.field == "model"
        with pytest.raises(UnknownModel, match="ecoh"):
            client.submit_many("ecoh", [1])

    @pytest.mark.parametrize("method", ["submit", "submit_many"])
    def test_an_unknown_version_is_named(self, client: Client, method: str) -> None:
        with pytest.raises(UnknownModel, match="no version 9"):
            getattr(client, method)("echo", [1], version=9)

    def test_what_cannot_be_a_model_is_refused(self, client: Client) -> None:
        models: list[Any] = ["", "a\x00b", "../etc", 7, None]
        for model in models:
            for method in (client.submit, client.submit_many):
                with pytest.raises(InvalidInput) as refusal:
                    method(model, [1])
                assert refusal.value.field == "model"

    def test_a_row_that_cannot_travel_is_named(self, client: Client) -> None:
        for row in (object(), {1: 2}, 2**70, "\ud800"):
            with pytest.raises(InvalidInput, match=r"rows\[1\]"):
                client.submit("echo", [1, row])

    def test_bad_options_are_refused_by_field(self, client: Client) -> None:
        bad = {"deadline_s": 0, "priority": "urgent", "version": 0, "metadata": {"a": {1}}}
        for field, value in bad.items():
            options: dict[str, Any] = {field: value}
            with pytest.raises(InvalidInput) as refusal:
                client.submit("echo", [1], **options)
            assert refusal.value.field == field

    def test_several_jobs_take_no_key(self, client: Client) -> None:
        with pytest.raises(InvalidInput, match="give one to each submit"):
            client.submit_many("echo", [1], idempotency_key="k")

    @pytest.mark.usefixtures("worker")
    def test_a_job_with_a_deadline_runs_before_it(self, client: Client) -> None:
        assert client.submit("echo", ["a"], deadline_s=60).outputs() == ["a"]


class TestSharing:
    @pytest.mark.usefixtures("worker")
    def test_threads_share_a_client(self, client: Client) -> None:
        def work(number: int) -> bool:
            item = client.submit_many("echo", [number])[0]
            return client.submit("negate", [number]).outputs() == [-number] and item.output() == number

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(80)))

    @pytest.mark.usefixtures("worker")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_forked_child_uses_its_parents_client(self, client: Client) -> None:
        before = client.submit("echo", ["before"])
        before.wait(PATIENCE_S)
        child = os.fork()
        if child == 0:
            good = before.outputs() == ["before"] and client.submit("echo", ["child"]).outputs() == ["child"]
            os._exit(0 if good else 1)
        assert client.submit("echo", ["parent"]).outputs() == ["parent"]
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert client.submit("echo", ["after"]).outputs() == ["after"]

    def test_a_closed_client_says_so(self, client: Client) -> None:
        client.close()
        with pytest.raises(InvalidInput, match="make a new Client"):
            client.submit("echo", [1])


@pytest.mark.usefixtures("worker")
class TestWhatJsonCannotSay:
    ARRAY = np.array([[1.5, math.inf]], dtype=np.float16)

    def test_arrays_keep_their_dtype_directly(self, settings: Settings) -> None:
        with Client(settings=settings) as client:
            (output,) = client.submit("negate", [self.ARRAY]).outputs()
        assert isinstance(output, np.ndarray)
        assert output.dtype == np.float16
        np.testing.assert_array_equal(output, -self.ARRAY)

    def test_arrays_become_lists_over_http(self, settings: Settings) -> None:
        with serving(create_app(settings)) as url, Client(url) as client:
            assert client.submit("echo", [np.arange(3, dtype=np.int8)]).outputs() == [[0, 1, 2]]

    def test_a_row_that_is_not_finite_is_refused_over_http(self) -> None:
        with Client("http://127.0.0.1:9") as client:
            for row in (math.nan, {"x": [math.inf]}, self.ARRAY):
                with pytest.raises(InvalidInput, match="send None in its place, or submit directly"):
                    client.submit("echo", [row])

    def test_an_output_that_is_not_finite_is_a_row_error_over_http(self, settings: Settings) -> None:
        with serving(create_app(settings)) as url, Client(url) as client:
            job = client.submit("unlike_json", [1, 0])
            assert [(error.index, error.code) for error in job.errors()] == [(1, "not_finite")]
            assert job.outputs(errors="none") == [1, None]
            with Client(settings=settings) as direct:
                handle = direct.job(job.id)
                assert str(handle.outputs()) == "[1, nan]"


class TestConnecting:
    def test_without_settings_the_remedy_is_told(self) -> None:
        with pytest.raises(SettingsError, match="shunter up"):
            Client(settings=Settings())

    def test_the_api_is_used_if_only_its_url_is_set(self) -> None:
        with Client(settings=Settings(api_url="http://127.0.0.1:9")) as client:
            assert repr(client) == "Client('http://127.0.0.1:9')"

    @pytest.mark.parametrize("url", ["localhost:8000", "postgresql://u:secret@h/d", ""])
    def test_what_is_no_url_of_an_api_is_refused(self, url: str) -> None:
        with pytest.raises(SettingsError, match="http://host:port") as refusal:
            Client(url)
        assert "secret" not in refusal.value.message

    def test_a_fleet_that_does_not_answer_is_unavailable(self, settings: Settings) -> None:
        with Client("http://127.0.0.1:9") as client, pytest.raises(Unavailable, match="does not answer"):
            client.submit("echo", [1])

    def test_a_wrong_path_of_the_api_is_told_as_such(self, settings: Settings) -> None:
        app = create_app(settings)
        with serving(app) as url, Client(f"{url}/docs") as client, pytest.raises(NotFound):
            client.submit("echo", [1])

    def test_a_key_opens_the_api(self, settings: Settings) -> None:
        with serving(create_app(replace(settings, api_key="secret"))) as url:
            with Client(url, api_key="secret") as client:
                assert not client.submit("echo", [1]).status().done
            for key in ("", "wrong"):
                with Client(url, api_key=key) as client, pytest.raises(Unauthorized, match="SHUNTER_API_KEY"):
                    client.submit("echo", [1])


def queued_jobs(settings: Settings) -> list[UUID]:
    """The ids of the jobs that wait, the oldest first."""
    with closing(Database(settings.database_url)) as database:
        return [job.id for job in reversed(JobRepository(database).find(state=JobState.QUEUED))]
