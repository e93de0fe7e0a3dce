"""What it costs to encode and decode rows: the row codec beside the plain serialisers.

Run with `python -m benchmarks.codec`. Every cell is microseconds per row, the best of several runs of one
thread; `-` means that the serialiser cannot say such a row, `lossy` that something else comes back.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import ormsgpack

from shunter.storage.payload import decode_rows, encode_rows

ROWS = 256
BUDGET_S = 0.4

Encode = Callable[[list[Any]], bytes]
Decode = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Codec:
    """One way to turn rows into bytes and back."""

    name: str
    encode: Encode
    decode: Decode


def workloads() -> dict[str, list[Any]]:
    """The rows to measure, by name; 256 of each."""
    source = random.Random(1)
    numbers = np.random.default_rng(1)
    return {
        "128 floats, list": [[source.random() for _ in range(128)] for _ in range(ROWS)],
        "small dict": [{"text": "a sentence of words", "id": n, "w": 0.5, "ok": True} for n in range(ROWS)],
        "float32 array 128": [numbers.random(128, dtype="f4") for _ in range(ROWS)],
        "int64 array 384x64": [numbers.integers(0, 30_000, (384, 64)) for _ in range(ROWS)],
        "8x8 image, lists": numbers.integers(0, 17, (ROWS, 8, 8)).astype(float).tolist(),
        "bytes 4 KiB": [source.randbytes(4096) for _ in range(ROWS)],
        "dict of 2 arrays 128": [_tokens(numbers) for _ in range(ROWS)],
        "numpy float32 scalar": list(numbers.random(ROWS, dtype="f4")),
        "mixed": [_mixed(source, numbers, n) for n in range(ROWS)],
        "128 floats, one NaN": [[float("nan")] + [source.random() for _ in range(127)] for _ in range(ROWS)],
    }


def _tokens(numbers: np.random.Generator) -> dict[str, Any]:
    return {"input_ids": numbers.integers(0, 30_000, 128), "attention_mask": np.ones(128, "i8")}


def _mixed(source: random.Random, numbers: np.random.Generator, n: int) -> dict[str, Any]:
    floats = [source.random() for _ in range(16)]
    return {"id": n, "text": "words " * 10, "floats": floats, "image": numbers.random((8, 8), dtype="f4")}


def codecs() -> list[Codec]:
    """The row codec first, then the candidates, each with the least tagging that carries arrays and bytes."""
    return [
        Codec("shunter", encode_rows, decode_rows),
        Codec("ormsgpack+ext", _ormsgpack, lambda data: ormsgpack.unpackb(data, ext_hook=_from_ext)),
        *([_msgpack()] if importlib.util.find_spec("msgpack") else []),
        Codec("orjson+tags", lambda rows: orjson.dumps(rows, default=_to_tag), _orjson_decode),
        Codec("json+tags", lambda rows: json.dumps(rows, default=_to_tag).encode(), _json_decode),
    ]


def _ormsgpack(rows: list[Any]) -> bytes:
    return ormsgpack.packb(rows, default=lambda value: ormsgpack.Ext(1, _array_bytes(value)))


def _msgpack() -> Codec:
    msgpack = importlib.import_module("msgpack")  # by name: a candidate only, no dependency of ours

    def encode(rows: list[Any]) -> bytes:
        packed: bytes = msgpack.packb(rows, default=lambda value: msgpack.ExtType(1, _array_bytes(value)))
        return packed

    return Codec("msgpack+ext", encode, lambda data: msgpack.unpackb(data, ext_hook=_from_ext))


def _array_bytes(value: Any) -> bytes:
    array = np.asarray(value)
    about = orjson.dumps([array.dtype.str, array.shape, isinstance(value, np.generic)])
    return bytes((len(about),)) + about + array.tobytes()


def _from_ext(_code: int, data: bytes) -> Any:
    start = 1 + data[0]
    dtype, shape, scalar = orjson.loads(data[1:start])
    array = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return array[()] if scalar else array


def _to_tag(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    return {"$array": base64.b64encode(_array_bytes(value)).decode()}


def _from_tag(value: Any) -> Any:
    if isinstance(value, list):
        return value if not value or type(value[0]) is float else [_from_tag(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if "$bytes" in value:
        return base64.b64decode(value["$bytes"])
    if "$array" in value:
        return _from_ext(1, base64.b64decode(value["$array"]))
    return {key: _from_tag(inner) for key, inner in value.items()}


def _orjson_decode(data: bytes) -> Any:
    return _from_tag(orjson.loads(data))


def _json_decode(data: bytes) -> Any:
    return _from_tag(json.loads(data))


def best_us(call: Callable[[], Any]) -> float:
    """Microseconds per row of the fastest call within the time budget."""
    best, end = float("inf"), time.perf_counter() + BUDGET_S
    while (start := time.perf_counter()) < end:
        call()
        best = min(best, time.perf_counter() - start)
    return best / ROWS * 1e6


def cell(codec: Codec, rows: list[Any]) -> str:
    """One cell of the table: encode + decode, and the bytes per row."""
    try:
        block = codec.encode(rows)
        if repr(codec.decode(block)) != repr(rows):
            return "lossy"
    except (TypeError, ValueError):
        return "-"
    encode, decode = best_us(lambda: codec.encode(rows)), best_us(lambda: codec.decode(block))
    return f"{encode:.1f} + {decode:.1f}, {len(block) / ROWS:.0f} B"


def main() -> None:
    """Print the table, in Markdown."""
    table = codecs()
    print(f"Microseconds per row, encode + decode, and bytes per row ({ROWS} rows per block):\n")
    print("| row | " + " | ".join(codec.name for codec in table) + " |")
    print("| --- |" + " --- |" * len(table))
    for name, rows in workloads().items():
        print(f"| {name} | " + " | ".join(cell(codec, rows) for codec in table) + " |", flush=True)


if __name__ == "__main__":
    main()
