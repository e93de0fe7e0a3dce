"""What all artifacts have in common: rows become arrays, batches become stacks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from shunter.storage.errors import RowError
from shunter.storage.payload_arrays import Array, as_array
from shunter.storage.signature import FREE, Signature, TensorSpec
from shunter.workers.model import Model

Arrays = tuple[Array, ...]
"""One row: an array for each input, in the order of the inputs."""


class ArtifactModel(Model):
    """A model without code of its own: `inputs` are as declared, or one of any kind.

    With one input a row is the bare value, with several a dict by name. Lists of floats without a
    declared dtype become float32.
    """

    def __init__(self, signature: Signature) -> None:
        self.inputs: Mapping[str, TensorSpec] = signature.inputs or {"input": TensorSpec(FREE)}
        self._outputs = list(signature.outputs)

    def preprocess(self, row: Any) -> Arrays:
        """The row's arrays; RowError for one that is none."""
        if len(self.inputs) == 1:
            ((name, spec),) = self.inputs.items()
            return (_array(row, name, spec),)
        if not isinstance(row, dict) or row.keys() != self.inputs.keys():
            raise RowError("invalid_row", f"this model takes a dict with {', '.join(self.inputs)}")
        return tuple(_array(row[name], name, spec) for name, spec in self.inputs.items())

    def shape_key(self, row: Arrays) -> Hashable:
        """Only rows of equal shapes and dtypes can be stacked."""
        return tuple((array.shape, array.dtype.str) for array in row)

    def stack(self, rows: Sequence[Arrays]) -> list[Array]:
        """One array for each input, the rows along its first dimension."""
        return [np.stack(column) for column in zip(*rows, strict=True)]

    def named(self, outputs: Any) -> Any:
        """Several outputs as columns, by their declared names if there are as many."""
        if not isinstance(outputs, list | tuple):
            return outputs
        if len(outputs) == len(self._outputs):
            return outputs[0] if len(outputs) == 1 else dict(zip(self._outputs, outputs, strict=True))
        return tuple(outputs)


def _array(value: Any, name: str, spec: TensorSpec) -> Array:
    try:
        array = as_array(value)
        if spec.dtype != FREE:
            return np.asarray(
                value if array is None else array, "O" if spec.dtype == "string" else spec.dtype
            )
        if array is None:
            array = np.asarray(value)
            array = array.astype(np.float32) if array.dtype == np.float64 else array
    except (ValueError, TypeError, OverflowError) as error:
        raise RowError("invalid_row", f"input {name!r} cannot become an array: {error}") from error
    if array.dtype.kind in "OUSV":
        raise RowError("invalid_row", f"input {name!r} is not numeric ({type(value).__name__})")
    return array
