"""Where a model runs: how batches get there, and in which mode and precision `forward` is called.

torch is looked up, never imported: a model that does without it must not pay for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shunter.storage.errors import ModelLoadError


@dataclass(frozen=True, slots=True)
class Inputs:
    """What `forward` takes for one whole batch; `copied` is the CUDA event after which it is there."""

    value: Any
    copied: Any = None


class Device:
    """`cpu`, `cuda`, `cuda:1`, ...; `dtype` names the lower precision that forward may compute in.

    On CUDA, batches are copied from pinned memory on a stream of their own, beside the model's work.
    """

    def __init__(self, name: str, *, dtype: str | None = None) -> None:
        self._name = name
        self._kind = name.partition(":")[0]
        self._dtype = dtype
        self._copies: Any = None

    def check(self, setting: str) -> None:
        """Raise ModelLoadError if the model does without torch, which the setting needs."""
        if _torch() is None:
            raise ModelLoadError(f"[run] {setting} is for models that run in torch: leave it out")

    @contextmanager
    def forwarding(self) -> Iterator[None]:
        """Around every call of `forward`."""
        torch = _torch()
        if torch is None:
            yield
            return
        with torch.inference_mode():
            if self._dtype is None:
                yield
                return
            with torch.autocast(self._kind, dtype=getattr(torch, self._dtype)):
                yield

    @contextmanager
    def collating(self) -> Iterator[None]:
        """Around every call of `collate`."""
        torch = _torch()
        if torch is None:
            yield
            return
        with torch.inference_mode():
            yield

    def move(self, value: Any) -> Inputs:
        """The same batch with its tensors on the device, or on their way to it."""
        torch = _torch()
        if torch is None or self._kind == "cpu":
            return Inputs(value)
        if self._kind != "cuda":
            return Inputs(_each_tensor(value, lambda tensor: tensor.to(self._name), self._move_other))
        if self._copies is None:
            self._copies = torch.cuda.Stream(self._name)
        with torch.cuda.stream(self._copies):
            moved = _each_tensor(value, self._send, self._move_other)
        return Inputs(moved, self._copies.record_event())

    def receive(self, inputs: Inputs) -> Any:
        """The batch, for the thread that calls forward: what it launches from now on waits for the copy."""
        if inputs.copied is None:
            return inputs.value
        stream = _torch().cuda.current_stream(self._name)
        stream.wait_event(inputs.copied)
        # Its memory belongs to the copying stream, which must not use it again before the model is done.
        _each_tensor(inputs.value, lambda tensor: tensor.record_stream(stream), lambda other: other)
        return inputs.value

    def _send(self, tensor: Any) -> Any:
        if tensor.device.type != "cpu":
            return tensor
        return tensor.pin_memory().to(self._name, non_blocking=True)

    def _move_other(self, value: Any) -> Any:
        """Something that moves itself; its tensors cannot be told of streams, so it goes by the model's."""
        torch = _torch()
        if self._kind != "cuda":
            return value.to(self._name)
        with torch.cuda.stream(torch.cuda.default_stream(self._name)):
            return value.to(self._name)


def compiled(forward: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same function, compiled by torch when it is first called."""
    function: Callable[[Any], Any] = _torch().compile(forward)
    return function


def _each_tensor(value: Any, change: Callable[[Any], Any], other: Callable[[Any], Any]) -> Any:
    """The same structure with its tensors changed; `other` is for objects that have a `to` of their own."""
    if isinstance(value, _torch().Tensor):
        return change(value)
    if hasattr(value, "to"):
        return other(value)
    if isinstance(value, Mapping):
        return {name: _each_tensor(inner, change, other) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        changed = [_each_tensor(inner, change, other) for inner in value]
        if isinstance(value, list):
            return changed
        return type(value)(*changed) if hasattr(value, "_fields") else tuple(changed)
    return value


def _torch() -> Any:
    return sys.modules.get("torch")
