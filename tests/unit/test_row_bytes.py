"""What a row takes, whatever it is made of."""

from typing import Any

import numpy as np
import pytest

from shunter.workers.row_bytes import bytes_in


@pytest.mark.parametrize(
    ("row", "size"),
    [
        (np.zeros((3, 4), np.float32), 48),
        (b"12345", 5),
        ("text", 4),
        ([1.0, 2.0], 16),
        ({"ids": np.zeros(2, np.int64), "name": "abc"}, 19),
        ((np.zeros(1, np.int8), [b"12"]), 3),
        ([], 1),
        (None, 8),
    ],
)
def test_a_row_takes_what_its_parts_take_and_never_nothing(row: Any, size: int) -> None:
    assert bytes_in(row) == size
