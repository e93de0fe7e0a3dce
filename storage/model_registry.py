"""Which model versions there are: found in a directory, and registered in Postgres for every host to see."""

from __future__ import annotations

import difflib
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from shunter.storage.database import Cursor, Database, fetch_all
from shunter.storage.errors import ModelConfigError, UnknownModel
from shunter.storage.model_config import FILE_NAME, ModelConfig, merge, parse, read_toml
from shunter.storage.model_directories import MANIFEST, folders, versions_of

log = logging.getLogger(__name__)

FRESH_S = 1.0
"""So long one reading of the registered models serves."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version as it lies in its directory; `digest` changes with any of its files."""

    name: str
    version: int
    directory: Path
    config: ModelConfig
    digest: str


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """One version as every host sees it."""

    name: str
    version: int
    config: ModelConfig
    digest: str


class Scan(NamedTuple):
    """What a models directory holds: the good versions, and why the others are not."""

    versions: list[ModelVersion]
    failures: list[ModelConfigError]


def scan(models_directory: Path) -> Scan:
    """Read every `<name>/<version>/` below a directory; a bad one does not stop the others.

    Raises ModelConfigError only when the directory itself cannot be read.
    """
    versions: list[ModelVersion] = []
    failures: list[ModelConfigError] = []
    for directory in folders(models_directory):
        try:
            candidates = versions_of(directory)
        except ModelConfigError as error:
            failures.append(error)
            continue
        for candidate in candidates:
            try:
                versions.append(describe(candidate))
            except ModelConfigError as error:
                failures.append(error)
    return Scan(versions, failures)


def describe(directory: Path) -> ModelVersion:
    """One version from its directory; raises ModelConfigError."""
    return ModelVersion(
        name=directory.parent.name,
        version=int(directory.name),
        directory=directory,
        config=read_config(directory),
        digest=_digest(directory),
    )


def read_config(directory: Path) -> ModelConfig:
    """The settings of a version: its own model.toml over the model's; raises ModelConfigError."""
    paths = (directory.parent / FILE_NAME, directory / FILE_NAME)
    shared, own = (read_toml(path) for path in paths)
    for document, path in zip((shared, own), paths, strict=True):
        parse(document, source=str(path))
    config = parse(merge(shared, own), source=str(directory))
    _check_warmup(config, directory)
    return config


def _check_warmup(config: ModelConfig, directory: Path) -> None:
    if config.run.warmup and not config.signature.inputs:
        raise ModelConfigError(
            f"{directory}: [run] warmup needs rows: declare [signature.inputs], or remove it"
        )
    if config.run.compile and not config.run.warmup:
        # Otherwise jobs would be the first to meet a model that cannot be compiled.
        raise ModelConfigError(f"{directory}: [run] compile needs warmup = true beside it")


def _digest(directory: Path) -> str:
    digest = hashlib.sha256()
    for name, path in _files(directory):
        with path.open("rb") as file:
            digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    shared = directory.parent / FILE_NAME
    if shared.is_file():
        yield f"../{FILE_NAME}", shared
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        # The manifest says nothing of its own: what is published is what it was copied from.
        if path.is_file() and "__pycache__" not in relative.parts and relative.as_posix() != MANIFEST:
            yield relative.as_posix(), path


KNOWN = "SELECT name, version, config, digest FROM models ORDER BY name, version"

# In the order of the key, so that two hosts that register the same models do not wait in a circle.
REGISTER = """
INSERT INTO models (name, version, digest, config)
SELECT * FROM unnest(%(names)s::text[], %(versions)s::int[], %(digests)s::text[], %(configs)s::jsonb[])
    AS found (name, version, digest, config)
ORDER BY name, version
ON CONFLICT (name, version) DO UPDATE
SET digest = excluded.digest, config = excluded.config, registered_at = now()
WHERE (models.digest, models.config) IS DISTINCT FROM (excluded.digest, excluded.config)
"""


class ModelRegistry:
    """The one reader and writer of the models table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, versions: Sequence[ModelVersion]) -> None:
        """Make versions known to every host; one whose files have changed replaces the old, and is logged."""
        if not versions:
            return
        with self._database.transaction() as cursor:
            known = {(model.name, model.version): model.digest for model in _known(cursor)}
            cursor.execute(REGISTER, _columns(versions))
        for found in versions:
            if known.get((found.name, found.version), found.digest) != found.digest:
                log.warning(
                    "%s version %d was registered with other files before: publish changes as a new version",
                    found.name,
                    found.version,
                )

    def get(self, name: str, version: int | None = None) -> RegisteredModel:
        """One version, the highest if none is named; raises UnknownModel."""
        models = self.list()
        found = [model for model in models if model.name == name and version in (None, model.version)]
        if not found:
            raise _unknown(name, version, models)
        return found[-1]

    def list(self) -> Sequence[RegisteredModel]:
        """Every version, by name and rising version."""
        with self._database.transaction() as cursor:
            return _known(cursor)


class KnownModels:
    """Looks models up without asking Postgres each time: what it knows is read again when it grows old.

    A version registered within the last FRESH_S seconds may not be served to those who name none yet.
    """

    def __init__(self, registry: ModelRegistry, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._models: Mapping[tuple[str, int | None], RegisteredModel] = {}
        self._read_at = float("-inf")

    def get(self, name: str, version: int | None = None) -> RegisteredModel:
        """One version, the highest if none is named; raises UnknownModel."""
        if self._clock() - self._read_at > FRESH_S:
            self._read()
        found = self._models.get((name, version))
        if found is None:
            # It may be new; otherwise the registry's refusal says what there is.
            return self._registry.get(name, version)
        return found

    def _read(self) -> None:
        read_at = self._clock()
        models = self._registry.list()
        highest = {(model.name, None): model for model in models}
        self._models = highest | {(model.name, model.version): model for model in models}
        self._read_at = read_at


def _known(cursor: Cursor) -> list[RegisteredModel]:
    cursor.execute(KNOWN)
    return [
        RegisteredModel(**{**row, "config": ModelConfig.from_document(row["config"])})
        for row in fetch_all(cursor)
    ]


def _columns(versions: Sequence[ModelVersion]) -> dict[str, Any]:
    return {
        "names": [found.name for found in versions],
        "versions": [found.version for found in versions],
        "digests": [found.digest for found in versions],
        "configs": [orjson.dumps(found.config.to_document()).decode() for found in versions],
    }


def _unknown(name: str, version: int | None, models: Sequence[RegisteredModel]) -> UnknownModel:
    names = sorted({model.name for model in models})
    if name in names:
        have = ", ".join(str(model.version) for model in models if model.name == name)
        return UnknownModel(f"model {name!r} has no version {version}: it has {have}", field="version")
    near = difflib.get_close_matches(name, names, n=1)
    known = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names) or 'none yet'}"
    return UnknownModel(
        f"no model is called {name!r}: {known}; a worker that runs registers a new directory within seconds",
        field="model",
    )
