"""What users give as rows, and how many share a job."""

from collections.abc import Iterator

import numpy as np
import pytest

from shunter.producers.rows import as_rows, each_row, packed_rows
from shunter.storage.errors import EmptyRows, InvalidInput


class Frame:
    """Looks like a pandas DataFrame."""

    columns = ("a", "b")

    def to_dict(self, *, orient: str) -> list[dict[str, int]]:
        assert orient == "records"
        return [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


class Table:
    """Looks like an Arrow table."""

    schema = "a: int64"

    def to_pylist(self) -> list[dict[str, int]]:
        return [{"a": 1}]


def numbers() -> Iterator[int]:
    yield from (1, 2)


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ([1, 2], [1, 2]),
        ((1, 2), [1, 2]),
        (numbers(), [1, 2]),
        (range(2), [0, 1]),
        (np.array([[1, 2], [3, 4]]).tolist(), [[1, 2], [3, 4]]),
        (Frame(), [{"a": 1, "b": 2}, {"a": 3, "b": 4}]),
        (Table(), [{"a": 1}]),
        ([None], [None]),
    ],
)
def test_rows_come_from_anything_that_holds_several(given: object, rows: list[object]) -> None:
    assert list(as_rows(given)) == rows


def test_the_rows_of_an_array_are_its_first_dimension() -> None:
    rows = as_rows(np.arange(6).reshape(3, 2))
    assert [row.tolist() for row in rows if isinstance(row, np.ndarray)] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("single", ["text", b"x", bytearray(b"x"), {"a": 1}, 1, 1.5, True, None, np.array(3)])
def test_a_single_value_is_refused_with_the_remedy(single: object) -> None:
    with pytest.raises(InvalidInput, match=r"for one row `\[row\]`") as refusal:
        as_rows(single)
    assert refusal.value.field == "inputs"


@pytest.mark.parametrize("nothing", [[], (), iter(()), np.zeros((0, 3))])
def test_no_rows_are_refused(nothing: object) -> None:
    with pytest.raises(EmptyRows):
        as_rows(nothing)


def test_rows_can_be_taken_one_by_one_from_an_endless_source() -> None:
    def forever() -> Iterator[int]:
        while True:
            yield 1

    assert next(iter(each_row(forever()))) == 1


@pytest.mark.parametrize(
    ("count", "max_rows", "packed"),
    [
        (1, 256, 8),
        (100, 256, 8),
        (160, 256, 10),
        (1000, 256, 63),
        (10_000, 256, 256),
        (10_000, 32, 32),
        (5, 1, 1),
    ],
)
def test_a_short_list_is_spread_and_a_long_one_packed(count: int, max_rows: int, packed: int) -> None:
    assert packed_rows(count, max_rows) == packed
