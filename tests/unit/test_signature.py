"""Rows are checked against what a model declares, and the refusal names the place and the remedy."""

from typing import Any

import numpy as np
import pytest
import torch

from shunter.storage.errors import InvalidInput
from shunter.storage.signature import Signature, TensorSpec


def one(dtype: str, *shape: int) -> Signature:
    return Signature({"x": TensorSpec(dtype, shape)})


@pytest.mark.parametrize(
    ("signature", "row"),
    [
        (one("float32", 3), [1.0, 2, 3.5]),
        (one("float32", 3), np.zeros(3, np.float32)),
        (one("float64", 3), np.zeros(3, np.float32)),
        (one("float32", 3), torch.zeros(3)),
        (one("float32", -1), [1.0]),
        (one("float32", -1, 2), [[1.0, 2.0], [3.0, 4.0]]),
        (one("float32", 0), []),
        (one("int8"), -128),
        (one("int64"), np.int32(7)),
        (one("bool", 2), [True, False]),
        (one("string"), "text"),
        (one("string", 2), ["a", "b"]),
        (one("bytes"), b"raw"),
        (one("any"), {"what": "ever"}),
        (Signature(), object()),
    ],
)
def test_rows_that_fit(signature: Signature, row: Any) -> None:
    signature.check_rows([row])
    signature.check_rows([row, row])


@pytest.mark.parametrize(
    ("signature", "row", "words"),
    [
        (one("float32", 3), [1.0, 2.0], "has the shape (2,)"),
        (one("float32", 3), 1.0, "has the shape ()"),
        (one("float32"), [1.0], "has the shape (1,)"),
        (one("float32", 2), [1.0, "2"], "holds '2' (str)"),
        (one("float32", 2), [1.0, None], "holds None (NoneType)"),
        (one("float32", 2), [1.0, True], "holds True (bool)"),
        (one("float32", 2), {"a": 1}, "holds {'a': 1} (dict)"),
        (one("float32", 2, 2), [[1.0, 2.0], [3.0]], "different lengths at depth 1"),
        (one("float32", -1, -1), [[1.0, 2.0], [3.0]], "different lengths at depth 1"),
        (one("float32", 3), np.zeros(3), "has dtype float64"),
        (one("int64", 3), np.zeros(3, np.float32), "has dtype float32"),
        (one("float32", 3), np.zeros(4, np.float32), "has the shape (4,)"),
        (one("int64"), 1.0, "holds 1.0 (float)"),
        (one("int8"), 128, "beyond int8"),
        (one("uint8", 1), [-1], "beyond uint8"),
        (one("bool"), 1, "holds 1 (int)"),
        (one("string"), b"raw", "holds b'raw' (bytes)"),
    ],
)
def test_rows_that_do_not_fit_are_named_with_the_remedy(signature: Signature, row: Any, words: str) -> None:
    (spec,) = signature.inputs.values()
    with pytest.raises(InvalidInput) as refused:
        signature.check_rows([spec.example() if spec.shape else row, row])
    assert refused.value.message.startswith(f"row {1 if spec.shape else 0}: input 'x' ")
    assert words in refused.value.message
    assert refused.value.message.endswith(f"send {spec.describe()}")


PAIR = Signature({"ids": TensorSpec("int64", (2,)), "mask": TensorSpec("bool", (2,))})


def test_several_inputs_are_a_dict_by_name() -> None:
    PAIR.check_rows([{"ids": [1, 2], "mask": [True, False]}, PAIR.example_row()])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([1, 2], "is a list: send a dict with 'ids', 'mask'"),
        ({"ids": [1, 2]}, "lacks 'mask'"),
        ({"ids": [1, 2], "mask": [True, True], "idz": 1}, "'idz', which the model does not take ('ids'?)"),
        ({"ids": [1, 2], "mask": [1, 0]}, "input 'mask' holds 1"),
    ],
)
def test_a_row_with_other_inputs_is_refused(row: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        PAIR.check_rows([PAIR.example_row(), row])
    assert words in refused.value.message
    assert (refused.value.field or "").startswith("rows[1]")


def test_a_reference_stands_for_bytes_and_for_nothing_else() -> None:
    there = {"$ref": "s3://bucket/key"}
    Signature({"image": TensorSpec("bytes")}).check_rows([there, b"x"])
    Signature({"image": TensorSpec("bytes"), "n": TensorSpec("int64")}).check_rows([{"image": there, "n": 1}])
    for spec in (TensorSpec("string"), TensorSpec("float32", (2,))):
        with pytest.raises(InvalidInput):
            Signature({"image": spec}).check_rows([there])
