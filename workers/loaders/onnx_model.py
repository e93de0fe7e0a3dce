"""`.onnx`: run by ONNX Runtime, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shunter.storage.model_config import ModelConfig
from shunter.storage.payload_arrays import Array
from shunter.storage.signature import ANY, FREE, Signature, TensorSpec
from shunter.workers.loaders.artifact import Arrays, ArtifactModel
from shunter.workers.loaders.author_errors import author_errors

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class OnnxModel(ArtifactModel):
    """A session; inputs and outputs are what the file says, whatever model.toml declares beside it."""

    def __init__(self, session: Any) -> None:
        super().__init__(
            Signature(
                inputs={node.name: _spec(node) for node in session.get_inputs()},
                outputs={node.name: _spec(node) for node in session.get_outputs()},
            )
        )
        self._session = session

    def collate(self, rows: Sequence[Arrays], *, pad_to: int | None) -> dict[str, Array]:
        """One array for each input, by name."""
        return dict(zip(self.inputs, self.stack(rows), strict=True))

    def forward(self, rows: dict[str, Array]) -> Any:
        """The session's outputs, as columns."""
        return self.named(self._session.run(None, rows))


def load(path: Path, config: ModelConfig, device: str) -> OnnxModel:
    """A session on the device; its first dimension should be dynamic."""
    del config
    with author_errors(path, "export it again, with a dynamic first dimension; pip install 'shunter[onnx]'"):
        import onnxruntime

        return OnnxModel(onnxruntime.InferenceSession(path, providers=_providers(device)))


def _providers(device: str) -> list[Any]:
    kind, _, number = device.partition(":")
    cpu = "CPUExecutionProvider"
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), cpu] if kind == "cuda" else [cpu]


def _spec(node: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else ANY for size in node.shape[1:])
    return TensorSpec(_DTYPES.get(node.type, FREE), shape)
