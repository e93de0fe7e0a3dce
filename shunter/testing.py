"""For the tests of your own models and programs: a client that needs no service, and runs models right here.

A model meets the same contract as in a fleet: rows pass the codec, are checked against the signature and
batched with others; a bad row fails alone; outputs must equal rows in number. Only processes are missing:
what crashes or hangs the interpreter does so to the tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path

from shunter.in_memory import InMemoryBackend
from shunter.producers.backend import Backend
from shunter.producers.client import Client
from shunter.storage.errors import InvalidInput, UnknownModel
from shunter.storage.model_config import ModelConfig
from shunter.storage.model_registry import ModelVersion, RegisteredModel, describe, scan
from shunter.storage.testing import InMemoryObjectStore
from shunter.workers.in_process import InProcessEngine

__all__ = ["InMemoryClient"]

Models = str | PathLike[str] | Mapping[str, object]
"""A models directory; or by name what is to be served: a version's directory, a Model, or its class."""


class InMemoryClient(Client):
    """A `Client` whose jobs run in this process, when a status or a result is first asked for.

    Args:
        models: a models directory, or by name a version's directory, an object with a `forward`, or its
            class. An object is taken as it is: call its `load` yourself if it has one.
        config: of the models that are objects; those in directories have their `model.toml`.

    Raises:
        ModelConfigError, ModelLoadError: a model is not as it should be.

    Example:
        >>> class Double:
        ...     def forward(self, rows):
        ...         return [2 * row for row in rows]
        >>> with InMemoryClient({"double": Double}) as client:
        ...     client.submit("double", [1, 2]).outputs()
        [2, 4]
    """

    def __init__(self, models: Models, *, config: ModelConfig | None = None) -> None:
        store = InMemoryObjectStore()
        found = list(_models(models, config or ModelConfig(), store))
        engines = {(model.name, model.version): engine for model, engine in found}
        self._in_memory = InMemoryBackend([model for model, _ in found], engines, store)
        self._ended = False

    @property
    def backend(self) -> Backend:
        """What the handles work with."""
        if self._ended:
            raise InvalidInput(f"{self!r} is closed: make a new one")
        return self._in_memory

    def batches(self, model: str) -> list[int]:
        """How many rows each batch of a model had so far, over all its versions; UnknownModel."""
        engines = [engine for (name, _), engine in self._in_memory.engines.items() if name == model]
        if not engines:
            raise UnknownModel(f"no model is called {model!r}", field="model")
        return [rows for engine in engines for rows in engine.batches]

    def close(self) -> None:
        """Its handles cannot be used any more."""
        self._ended = True

    def __repr__(self) -> str:
        names = sorted({name for name, _ in self._in_memory.engines})
        return f"InMemoryClient({', '.join(names)})"


def _models(
    models: Models, config: ModelConfig, store: InMemoryObjectStore
) -> Iterator[tuple[RegisteredModel, InProcessEngine]]:
    if isinstance(models, Mapping):
        for name, model in models.items():
            yield _given(name, model, config, store)
        return
    found = scan(Path(models).absolute())
    for failure in found.failures:
        raise failure
    for version in found.versions:
        yield _loaded(version.name, version, store)


def _given(
    name: str, model: object, config: ModelConfig, store: InMemoryObjectStore
) -> tuple[RegisteredModel, InProcessEngine]:
    if isinstance(model, str | PathLike):
        return _loaded(name, describe(Path(model).absolute()), store)
    made = model() if isinstance(model, type) else model
    return RegisteredModel(name, 1, config, "in-memory"), InProcessEngine(made, config, store)


def _loaded(
    name: str, version: ModelVersion, store: InMemoryObjectStore
) -> tuple[RegisteredModel, InProcessEngine]:
    engine = InProcessEngine.load(version.directory, version.config, store)
    return RegisteredModel(name, version.version, version.config, version.digest), engine
