"""Models that are artifacts, or that use torch, in a real engine process."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shunter.storage.job import JobState
from shunter.workers.sizing import START_ROWS
from tests.engine_process import EngineProcess, outputs_of, write_model

SIGNATURE = "[signature.inputs]\nx = {dtype = 'float32', shape = [4]}"
TWO_INPUTS = """
[signature.inputs]
x = {dtype = 'float32', shape = [4]}
scale = {dtype = 'float32'}
[signature.outputs]
sum = {dtype = 'float32'}
x = {dtype = 'float32', shape = [4]}
"""
ROWS = [[1.0, 2.0, 3.0, 4.0], np.full(4, 0.5, np.float32), [0.0, 0, 0, 1]]


def layers() -> torch.nn.Sequential:
    torch.manual_seed(7)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()


def expected() -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        outputs: np.ndarray[Any, Any] = layers()(torch.tensor(np.array(ROWS, np.float32))).numpy()
        return outputs


class Scaled(torch.nn.Module):
    """Two inputs, two outputs."""

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scaled = x * scale[:, None]
        return scaled.sum(dim=1), scaled


def save_exported(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=1024)
    shapes = tuple({0: batch} for _ in inputs)
    torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes), path)


def save_script(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> None:
    torch.jit.save(torch.jit.trace(module, inputs), path)  # type: ignore[no-untyped-call]


def save_onnx(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> None:
    names = ["x", "scale"][: len(inputs)]
    torch.onnx.export(
        module,
        inputs,
        path,
        input_names=names,
        output_names=["sum", "x_scaled"][: len(inputs)],
        dynamic_shapes=tuple({0: torch.export.Dim("batch")} for _ in inputs),
        dynamo=True,
        verbose=False,
    )


KINDS = {"model.pt2": save_exported, "model.pt": save_script, "model.onnx": save_onnx}

# The exporters warn of their own future.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}Warning") for kind in ("Deprecation", "Future", "User")
]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("config", [SIGNATURE, ""])
def test_an_artifact_gives_what_the_module_gave(tmp_path: Path, name: str, config: str) -> None:
    directory = write_model(tmp_path, config=config)
    KINDS[name](layers(), (torch.zeros(3, 4),), directory / name)
    with EngineProcess(directory) as engine:
        outcome = engine.loaded().run_rows([*ROWS, [1.0, 2.0], "text"])
        outputs: list[Any] = outputs_of(outcome)
        np.testing.assert_allclose(np.stack(outputs[:3]), expected(), rtol=1e-5, atol=1e-6)
        assert outputs[0].dtype == np.float32
        assert outputs[3:] == [None, None]
        assert [failure.index for failure in outcome.failures] == [3, 4]


@pytest.mark.parametrize("name", KINDS)
def test_several_inputs_and_outputs_go_by_name(tmp_path: Path, name: str) -> None:
    directory = write_model(tmp_path, config=TWO_INPUTS)
    KINDS[name](Scaled(), (torch.zeros(3, 4), torch.zeros(3)), directory / name)
    with EngineProcess(directory) as engine:
        rows = [{"x": [1, 2, 3, 4], "scale": 2.0}, {"x": [1, 1, 1, 1], "scale": 3.0}, {"x": [1, 1, 1, 1]}]
        outcome = engine.loaded().run_rows(rows)
        outputs: list[Any] = outputs_of(outcome)
        assert [float(output["sum"]) for output in outputs[:2]] == [20.0, 12.0]
        assert [(failure.index, failure.code) for failure in outcome.failures] == [(2, "invalid_row")]


def test_a_torch_model_file_is_collated_and_keeps_bfloat16_values(tmp_path: Path) -> None:
    code = """
    import torch

    class Model:
        def load(self, directory, device, *, width):
            self.layer = torch.nn.Linear(width, width, bias=False, dtype=torch.bfloat16, device=device)
            torch.nn.init.eye_(self.layer.weight)

        def collate(self, rows, *, pad_to):
            return {"x": torch.tensor(rows, dtype=torch.bfloat16)}

        def forward(self, batch):
            assert torch.is_inference_mode_enabled()
            return self.layer(batch["x"])
    """
    with EngineProcess(write_model(tmp_path, code, config="[params]\nwidth = 2")) as engine:
        outputs: list[Any] = outputs_of(engine.loaded().run_rows([[0.5, 1.0], [2.0, -4.0]]))
        assert [output.tolist() for output in outputs] == [[0.5, 1.0], [2.0, -4.0]]
        assert outputs[0].dtype == np.float32


def test_a_state_dict_is_no_torchscript_and_the_author_is_told(tmp_path: Path) -> None:
    directory = write_model(tmp_path)
    torch.save(layers().state_dict(), directory / "model.pt")
    with EngineProcess(directory) as engine:
        message = engine.receive()
        assert "a state_dict needs a model.py" in str(message)
        assert engine.process.wait(60) == 3


def test_two_artifacts_are_one_too_many(tmp_path: Path) -> None:
    directory = write_model(tmp_path)
    (directory / "a.onnx").touch()
    (directory / "b.pt2").touch()
    with EngineProcess(directory) as engine:
        assert "holds a.onnx and b.pt2: put one file there" in str(engine.receive())


def test_rows_of_different_shapes_are_batched_apart(tmp_path: Path) -> None:
    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1).mean(dim=1)

    directory = write_model(tmp_path)
    save_script(Mean(), (torch.zeros(2, 3),), directory / "model.pt")
    with EngineProcess(directory) as engine:
        outcome = engine.loaded().run_rows([[float(n)] * (1 + n % 3) for n in range(30)])
        assert outcome.state is JobState.SUCCEEDED
        assert [float(output) for output in outputs_of(outcome)] == [float(n) for n in range(30)]
        # No batch of one: the shapes take turns in the job, and not in the batches.
        assert sorted(batch.rows for batch in engine.batches) == [2, 2, 2, START_ROWS, START_ROWS, START_ROWS]
