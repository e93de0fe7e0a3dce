"""A model's settings, from `model.toml`: every key known, every value checked, nothing guessed."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson

from shunter.storage.errors import ModelConfigError
from shunter.storage.signature import ANY, DTYPE_NAMES, Signature, TensorSpec

FILE_NAME = "model.toml"

MAX_BATCH_ROWS = 65_536
MAX_PREPROCESS_PROCESSES = 256
MAX_WARMUP_LENGTH = 1_048_576
LOWER_DTYPES = ("bfloat16", "float16")

PADDED, PACKED = "padded", "packed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How large a batch may be, and how long it may wait.

    `max_rows` is the most that is ever tried; how many are best is measured. `tokens` says how `max_tokens`
    counts, as the model pays: "padded" is the longest row times the rows, "packed" the sum of the lengths.
    `max_bytes` bounds the sum of the preprocessed rows' sizes. `max_wait_s` 0 never waits for a fuller batch.
    """

    max_rows: int = 256
    max_tokens: int | None = None
    tokens: str = PADDED
    max_bytes: int | None = None
    max_wait_s: float = 0.0

    @property
    def packed(self) -> bool:
        """Whether the model pays for no padding."""
        return self.tokens == PACKED


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """How long loading and one batch may take, and how often a job is tried.

    `warmup` runs batches of zeros after loading, which needs [signature.inputs]; `warmup_lengths` are
    the sizes that its dimensions of any size take. `preprocess_processes` 0 preprocesses in a thread of
    the engine. `dtype` is the precision that torch may lower forward to, and `compile` has torch compile it.
    `finite` makes a NaN or an infinity in an output the error `not_finite` of its row; some models mean
    something by them. `raise_ceilings` tries, now and then, a batch larger than what once did not fit in
    memory.
    """

    batch_timeout_s: float = 300.0
    load_timeout_s: float = 300.0
    max_attempts: int = 3
    warmup: bool = False
    warmup_lengths: tuple[int, ...] = ()
    preprocess_processes: int = 0
    dtype: str | None = None
    compile: bool = False
    finite: bool = False
    raise_ceilings: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What model.toml says, with the defaults for what it does not; `params` go to the model's `load`."""

    batching: Batching = field(default_factory=Batching)
    run: RunLimits = field(default_factory=RunLimits)
    params: Mapping[str, Any] = field(default_factory=dict)
    signature: Signature = field(default_factory=Signature)

    def to_document(self) -> dict[str, Any]:
        """The JSON form: model.toml's sections, defaults filled in."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ModelConfig:
        """Read the JSON form; settings that a newer version wrote are ignored."""
        known = {key: value for key, value in document.items() if key in _TABLES}
        for section, checks in _SECTIONS.items():
            known[section] = {key: value for key, value in known.get(section, {}).items() if key in checks}
        return parse(known, source="config")


Check = Callable[[Any], str | None]
"""What is wrong with a value, as what it must be; None if nothing is."""


def _whole(least: int, most: int) -> Check:
    wanted = f"a whole number from {least} to {most}"
    return lambda value: None if type(value) is int and least <= value <= most else wanted


def _wholes(least: int, most: int) -> Check:
    check = _whole(least, most)
    wanted = f"a list of whole numbers from {least} to {most}"
    return lambda value: None if isinstance(value, list | tuple) and not any(map(check, value)) else wanted


def _one_of(*choices: str | None) -> Check:
    wanted = f"one of {', '.join(choice for choice in choices if choice)}"
    return lambda value: None if value in choices else wanted


def _seconds(*, least: float) -> Check:
    wanted = f"a number of seconds, {least:g} or more"

    def check(value: Any) -> str | None:
        fits = type(value) in (int, float) and math.isfinite(value) and value >= least
        return None if fits else wanted

    return check


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _truth(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


_SECTIONS: Mapping[str, Mapping[str, Check]] = {
    "batching": {
        "max_rows": _whole(1, MAX_BATCH_ROWS),
        "max_tokens": _optional(_whole(1, 2**31)),
        "tokens": _one_of(PADDED, PACKED),
        "max_bytes": _optional(_whole(1, 2**50)),
        "max_wait_s": _seconds(least=0),
    },
    "run": {
        "batch_timeout_s": _seconds(least=0.1),
        "load_timeout_s": _seconds(least=0.1),
        "max_attempts": _whole(1, 100),
        "warmup": _truth,
        "warmup_lengths": _wholes(1, MAX_WARMUP_LENGTH),
        "preprocess_processes": _whole(0, MAX_PREPROCESS_PROCESSES),
        "dtype": _one_of(None, *LOWER_DTYPES),
        "compile": _truth,
        "finite": _truth,
        "raise_ceilings": _truth,
    },
}


_TABLES = (*_SECTIONS, "params", "signature")


def read_toml(path: Path) -> dict[str, Any]:
    """A model.toml as a document, empty if there is none; raises ModelConfigError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelConfigError(f"{path}: {error}") from error


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """One document over another, key by key, at every depth."""
    merged = dict(base)
    for key, value in override.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def parse(document: Mapping[str, Any], *, source: str) -> ModelConfig:
    """Check a whole document; ModelConfigError names `source`, the key and what to write instead."""
    _check_keys(document, list(_TABLES), f"{source}:")
    return ModelConfig(
        batching=Batching(**_section(document, "batching", source)),
        run=RunLimits(**_section(document, "run", source)),
        params=_params(_table(document, "params", source), source),
        signature=_signature(document, source),
    )


def _section(document: Mapping[str, Any], section: str, source: str) -> dict[str, Any]:
    table, checks, where = _table(document, section, source), _SECTIONS[section], f"{source}: [{section}]"
    _check_keys(table, list(checks), where)
    values = {key: _checked(value, checks[key], f"{where} {key}") for key, value in table.items()}
    return {key: _plain(key, value) for key, value in values.items()}


def _plain(key: str, value: Any) -> Any:
    if key.endswith("_s"):
        return float(value)
    return tuple(value) if isinstance(value, list) else value


def _check_keys(table: Mapping[str, Any], known: list[str], where: str) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ModelConfigError(f"{where} does not know {key!r}: {hint}")


def _checked(value: Any, check: Check, where: str) -> Any:
    wanted = check(value)
    if wanted is not None:
        raise ModelConfigError(f"{where} is {value!r}: write {wanted}")
    return value


def _table(document: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise ModelConfigError(f"{source}: {key} is {table!r:.60}: write a table, [{key}]")
    return table


def _params(params: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    try:
        orjson.dumps(params, option=orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError as error:
        raise ModelConfigError(f"{source}: [params] {error}: write dates and times as strings") from error
    return params


def _signature(document: Mapping[str, Any], source: str) -> Signature:
    table = _table(document, "signature", source)
    sides = [side.name for side in fields(Signature)]
    _check_keys(table, sides, f"{source}: [signature]")
    where = f"{source}: [signature]"
    specs = {side: _table(table, side, where) for side in sides}
    return Signature(
        **{side: _specs(named, f"{source}: [signature.{side}]") for side, named in specs.items()}
    )


def _specs(table: Mapping[str, Any], where: str) -> dict[str, TensorSpec]:
    return {name: _spec(_table(table, name, where), f"{where} {name}") for name in table}


def _spec(table: Mapping[str, Any], where: str) -> TensorSpec:
    _check_keys(table, ["dtype", "shape"], where)
    dtype, shape = table.get("dtype"), table.get("shape", [])
    if dtype not in DTYPE_NAMES:
        raise ModelConfigError(f"{where}: dtype is {dtype!r}: write one of {', '.join(DTYPE_NAMES)}")
    if not isinstance(shape, list | tuple) or not all(type(size) is int and size >= ANY for size in shape):
        raise ModelConfigError(f"{where}: shape is {shape!r:.60}: write a list of sizes, -1 for any")
    return TensorSpec(dtype, tuple(shape))
