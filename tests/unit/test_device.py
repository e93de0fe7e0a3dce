"""Precision and moving, as far as a machine without a GPU goes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shunter.workers.device import Device
from shunter.workers.runner import Runner


class Linear:
    """Tells in which precision it ran."""

    def __init__(self) -> None:
        self.layer = torch.nn.Linear(4, 2)
        self.ran_in: list[torch.dtype] = []

    def collate(self, rows: list[Any], *, pad_to: int | None) -> torch.Tensor:
        return torch.tensor(rows)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layer(batch)
        self.ran_in.append(outputs.dtype)
        return outputs


ROWS = [[0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_lower_precision_is_near_the_full_one_and_comes_back_as_numbers(dtype: str) -> None:
    model = Linear()
    full = Runner(model).forward(ROWS).results
    low = Runner(model, dtype=dtype).forward(ROWS).results
    assert model.ran_in == [torch.float32, getattr(torch, dtype)]
    for one, other in zip(full, low, strict=True):
        assert other.dtype.name in ("float16", "float32")
        assert other == pytest.approx(one, abs=0.05)


def test_moving_keeps_the_structure_of_a_batch() -> None:
    class Tagged(dict[str, Any]):
        """A mapping that moves itself, as tokenizers make them."""

        def to(self, device: str) -> str:
            return f"moved to {device}"

    from typing import NamedTuple

    class Pair(NamedTuple):
        left: torch.Tensor
        right: list[Any]

    batch = {"pair": Pair(torch.zeros(1), [torch.ones(2), "text"]), "tagged": Tagged(), "both": (1, None)}
    moved = Device("meta").move(batch).value
    assert isinstance(moved["pair"], Pair)
    assert moved["pair"].left.device.type == moved["pair"].right[0].device.type == "meta"
    assert (moved["pair"].right[1], moved["tagged"], moved["both"]) == ("text", "moved to meta", (1, None))


def test_on_the_cpu_a_batch_is_left_as_it_is() -> None:
    batch = {"x": torch.zeros(1)}
    device = Device("cpu")
    assert device.receive(device.move(batch)) is batch
