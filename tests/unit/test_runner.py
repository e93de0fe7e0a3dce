"""Rows through a model without a process: scatter, hooks, and the isolation of rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from shunter.storage.errors import OutputMismatch, RowError
from shunter.workers.isolation import Failure
from shunter.workers.model import Model, hooks_of
from shunter.workers.runner import Place, Runner
from shunter.workers.scatter import scatter


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
def test_an_array_is_split_and_keeps_its_dtype(dtype: str) -> None:
    rows = scatter(np.ones((3, 2), dtype), 3)
    assert [(row.dtype.name, row.shape) for row in rows] == [(dtype, (2,))] * 3


def test_a_vector_gives_scalars_that_keep_their_dtype() -> None:
    assert [type(row) for row in scatter(np.arange(2, dtype=np.int16), 2)] == [np.int16] * 2


def test_a_tensor_becomes_arrays_and_bfloat16_becomes_float32() -> None:
    rows = scatter(torch.full((2, 3), 0.5, dtype=torch.bfloat16, requires_grad=True), 2)
    assert [(row.dtype.name, row.tolist()) for row in rows] == [("float32", [0.5] * 3)] * 2


def test_a_list_of_tensors_becomes_arrays_whether_alike_or_not() -> None:
    alike = scatter([torch.zeros(2), torch.ones(2)], 2)
    unlike = scatter([torch.zeros(2), torch.ones(3), None], 3)
    assert [row.tolist() for row in alike] == [[0, 0], [1, 1]]
    assert [None if row is None else row.shape for row in unlike] == [(2,), (3,), None]


def test_columns_become_a_dict_or_a_list_for_each_row() -> None:
    labels, scores = ["a", "b"], np.array([0.25, 0.5])
    assert scatter({"label": labels, "score": scores}, 2) == [
        {"label": "a", "score": 0.25},
        {"label": "b", "score": 0.5},
    ]
    assert scatter((labels, scores), 2) == [["a", 0.25], ["b", 0.5]]


@pytest.mark.parametrize(
    ("outputs", "word"),
    [
        ([1], "1 outputs for 2 rows"),
        ([1, 2, 3], "3 outputs for 2 rows"),
        (np.zeros((3, 2)), "shape"),
        (np.float32(1), "cannot be split"),
        (torch.zeros(()), "shape"),
        (None, "NoneType"),
        ("ab", "str"),
        ((n for n in (1, 2)), "generator"),
        ({"a": [1, 2], "b": [1]}, "output 'b'"),
        ({}, "no outputs"),
        (([1, 2], [1]), "output 1"),
    ],
)
def test_anything_but_one_output_per_row_is_refused(outputs: Any, word: str) -> None:
    with pytest.raises(OutputMismatch, match=word):
        scatter(outputs, 2)


def test_inherited_methods_are_no_hooks() -> None:
    class Tiny(Model):
        def forward(self, rows: Any) -> Any:
            return rows

    hooks = hooks_of(Tiny())
    assert hooks.forward([1]) == [1]
    assert (hooks.preprocess, hooks.collate, hooks.postprocess, hooks.length) == (None,) * 4


class Picky:
    """Refuses negative rows before and odd ones after."""

    def preprocess(self, row: int) -> int:
        if row < 0:
            raise RowError("negative", f"{row} is negative")
        return row * 10

    def forward(self, rows: Sequence[int]) -> list[int]:
        return [row + 1 for row in rows]

    def postprocess(self, output: int) -> str:
        if output == 31:
            raise ValueError("31 is odd")
        return str(output)


def test_errors_before_and_after_are_the_rows_own() -> None:
    runner = Runner(Picky())
    values = runner.preprocess([1, -2, 3])
    assert values[1] == Failure("negative", "-2 is negative")
    results = runner.forward([values[0], values[2]]).results
    assert runner.postprocess(results) == ["11", Failure("value_error", "31 is odd")]


def test_a_batch_preprocessor_that_fails_is_asked_row_by_row() -> None:
    class Tokenizer:
        def preprocess_batch(self, rows: list[str]) -> list[int]:
            return [int(row) for row in rows]

        def forward(self, rows: Any) -> Any:
            return rows

    one, bad, three = Runner(Tokenizer()).preprocess(["1", "x", "3"])
    assert (one, three) == (1, 3)
    assert isinstance(bad, Failure)


def test_a_batch_preprocessor_that_drops_rows_is_never_believed() -> None:
    class Dropping:
        def preprocess_batch(self, rows: list[int]) -> list[int]:
            return rows[1:]

        def forward(self, rows: Any) -> Any:
            return rows

    assert [failure.code for failure in Runner(Dropping()).preprocess([1, 2])] == ["output_mismatch"] * 2


class Padded:
    """Pads to the length of its bucket."""

    def length(self, row: list[int]) -> int:
        return len(row)

    def collate(self, rows: list[list[int]], *, pad_to: int | None) -> Any:
        assert pad_to is not None
        return np.array([row + [0] * (pad_to - len(row)) for row in rows])

    def forward(self, rows: Any) -> Any:
        return rows.sum(axis=1)


def test_rows_keep_their_length_and_collate_pads_to_what_it_is_told() -> None:
    runner = Runner(Padded())
    assert runner.places([[1] * 17]) == [Place(None, 17)]
    gathered = runner.gather([[1, 2], [3]], pad_to=16)
    assert gathered is not None
    assert gathered.value.shape == (2, 16)
    assert runner.forward([[1, 2], [3]], pad_to=16, inputs=gathered).results == [3, 3]


def test_a_row_that_cannot_be_collated_fails_alone() -> None:
    runner = Runner(Padded())
    rows: list[Any] = [[1], ["x"], [3]]
    results = runner.forward(rows, pad_to=16, inputs=runner.gather(rows, pad_to=16)).results
    assert isinstance(results[1], Failure)
    assert [results[0], results[2]] == [1, 3]


def test_a_length_that_is_no_number_fails_its_row() -> None:
    class Broken:
        def length(self, row: Any) -> Any:
            return row

        def forward(self, rows: Any) -> Any:
            return rows

    assert isinstance(Runner(Broken()).places(["long"])[0], Failure)


def test_forward_runs_in_inference_mode() -> None:
    class Grown:
        def forward(self, rows: Any) -> Any:
            return [torch.is_inference_mode_enabled()] * len(rows)

    assert Runner(Grown()).forward([1]).results == [True]


def test_a_model_that_grows_its_list_has_returned_the_wrong_number() -> None:
    class Growing(Model):
        def forward(self, rows: list[Any]) -> list[Any]:
            rows.append(0)
            return list(rows)

    with pytest.raises(OutputMismatch, match="3 outputs for 2 rows"):
        Runner(Growing()).run_once([1, 2])
    results = Runner(Growing()).forward([1, 2]).results
    assert [type(result) for result in results] == [Failure, Failure]
