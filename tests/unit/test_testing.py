"""The in-memory client that users test their models with: the contract of a fleet, without one."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from shunter import AlreadyFinished, InvalidInput, JobFailed, RowError, RowsFailed, Transient, UnknownModel
from shunter.storage.errors import ModelConfigError, ModelLoadError
from shunter.storage.model_config import Batching, ModelConfig
from shunter.testing import InMemoryClient

pytest_plugins = ["pytester"]


class Double:
    def preprocess(self, row: Any) -> Any:
        if row == "bad":
            raise RowError("not_a_number", "give a number")
        return row

    def forward(self, rows: list[Any]) -> list[Any]:
        return [2 * row for row in rows]


class Reluctant:
    """Asks for another try so often."""

    def __init__(self, times: int) -> None:
        self.left = times

    def forward(self, rows: list[Any]) -> list[Any]:
        if self.left:
            self.left -= 1
            raise Transient(after_s=3600)
        return rows


def write(directory: Path, source: str, toml: str = "") -> Path:
    directory.mkdir(parents=True)
    (directory / "model.py").write_text(textwrap.dedent(source))
    (directory / "model.toml").write_text(toml)
    return directory


def test_outputs_come_in_the_order_of_the_rows_and_a_bad_row_fails_alone() -> None:
    with InMemoryClient({"double": Double}) as client:
        job = client.submit("double", [1, "bad", 3])
        with pytest.raises(RowsFailed, match="row 1: not_a_number: give a number"):
            job.outputs()
        assert job.outputs(errors="none") == [2, None, 6]
        assert (job.status().rows.succeeded, job.status().rows.failed) == (2, 1)


def test_jobs_that_were_submitted_before_anybody_looked_share_a_batch() -> None:
    with InMemoryClient({"double": Double()}) as client:
        first, second = client.submit("double", [1, 2]), client.submit("double", [3])
        assert (first.outputs(), second.outputs()) == ([2, 4], [6])
        assert client.batches("double") == [3]


def test_batches_keep_to_the_limits_of_the_model() -> None:
    config = ModelConfig(batching=Batching(max_rows=4))
    with InMemoryClient({"double": Double}, config=config) as client:
        assert list(client.map("double", range(10))) == [2 * row for row in range(10)]
        assert max(client.batches("double")) <= 4
        assert sum(client.batches("double")) == 10


def test_a_model_that_drops_an_output_fails_its_batch() -> None:
    class Dropping:
        def forward(self, rows: list[Any]) -> list[Any]:
            return rows[1:]

    with InMemoryClient({"dropping": Dropping}) as client, pytest.raises(JobFailed, match="1 outputs for 2"):
        client.submit("dropping", [1, 2]).outputs()


def test_a_job_that_is_to_be_tried_later_is_tried_without_waiting() -> None:
    with InMemoryClient({"shy": Reluctant(2), "stubborn": Reluctant(9)}) as client:
        assert client.submit("shy", [1]).outputs() == [1]
        with pytest.raises(JobFailed, match="gave up after 3 attempts"):
            client.submit("stubborn", [1]).outputs()


def test_handles_wait_complete_and_cancel_as_those_of_a_fleet() -> None:
    with InMemoryClient({"double": Double}) as client:
        items = client.submit_many("double", [1, 2, 3])
        assert {item.output() for item in client.as_completed(items)} == {2, 4, 6}
        job = client.submit("double", [1])
        assert job.cancel().state == "cancelled"
        done = client.submit("double", [1])
        assert done.wait().state == "succeeded"
        assert [event.what for event in done.timeline()][-1] == "settled"
        with pytest.raises(AlreadyFinished):
            done.cancel()


def test_a_directory_of_models_is_served_with_its_settings(tmp_path: Path) -> None:
    source = """
        class Model:
            def load(self, directory, device, factor):
                self.factor = factor

            def forward(self, rows):
                return [row * self.factor for row in rows]
    """
    toml = '[params]\nfactor = 3\n[signature.inputs]\nx = { dtype = "float32", shape = [] }'
    directory = write(tmp_path / "models" / "triple" / "2", source, toml)
    for models in (tmp_path / "models", {"triple": directory}):
        with InMemoryClient(models) as client:
            job = client.submit("triple", [2])
            assert (job.status().version, job.outputs()) == (2, [6.0])
            with pytest.raises(InvalidInput, match="'x'"):
                client.submit("triple", ["two"])


@pytest.mark.parametrize(
    ("source", "toml", "error"),
    [("import nothing_of_this_name", "", ModelLoadError), ("", "max_row = 3", ModelConfigError)],
)
def test_a_model_that_cannot_be_served_is_refused(
    tmp_path: Path, source: str, toml: str, error: type[Exception]
) -> None:
    write(tmp_path / "bad" / "1", source, toml)
    with pytest.raises(error):
        InMemoryClient(tmp_path)


def test_unknown_models_are_named_and_what_needs_a_fleet_says_so() -> None:
    with InMemoryClient({"double": Double}) as client:
        assert repr(client) == "InMemoryClient(double)"
        with pytest.raises(UnknownModel, match="did you mean 'double'"):
            client.submit("duble", [1])
        with pytest.raises(UnknownModel):
            client.batches("duble")
        with pytest.raises(InvalidInput, match=r"shunter.local\(\)"):
            client.score("double", "in.parquet", "out")
    with pytest.raises(InvalidInput, match="is closed"):
        client.submit("double", [1])


def test_the_fixture_of_the_pytest_plugin_makes_clients(pytester: pytest.Pytester) -> None:
    source = """
        class Model:
            def forward(self, rows):
                return [2 * row for row in rows]
    """
    write(pytester.path / "models" / "double" / "1", source)
    pytester.makepyfile(
        """
        def test_it_doubles(shunter_client):
            assert shunter_client("models").submit("double", [21]).outputs() == [42]
        """
    )
    pytester.runpytest_subprocess("-p", "shunter.pytest_plugin", "-p", "no:cacheprovider").assert_outcomes(
        passed=1
    )


def test_batches_are_bounded_in_bytes_as_in_a_fleet() -> None:
    class Same:
        def forward(self, rows: list[Any]) -> list[Any]:
            return rows

    config = ModelConfig(batching=Batching(max_rows=8, max_bytes=100))
    with InMemoryClient({"same": Same}, config=config) as client:
        client.submit("same", ["x" * 40] * 5).outputs()
        assert client.batches("same") == [2, 2, 1]


def test_rows_may_refer_to_objects_as_in_a_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "one").write_bytes(b"1")
    (tmp_path / "secret").write_bytes(b"2")
    monkeypatch.setenv("SHUNTER_FETCH_FROM", (tmp_path / "allowed").as_uri())
    urls = [(tmp_path / name).as_uri() for name in ("allowed/one", "allowed/none", "secret")]
    with InMemoryClient({"double": Double}) as client:
        job = client.submit("double", [{"$ref": url} for url in urls])
        assert job.outputs(errors="none") == [b"11", None, None]
        with pytest.raises(RowsFailed) as caught:
            job.outputs()
    assert [error.code for error in caught.value.errors] == ["fetch_not_found", "fetch_refused"]
