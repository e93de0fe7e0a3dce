"""The row codec: exact both ways, clear in refusing, calm before any bytes."""

import dataclasses
import datetime
import decimal
import enum
import json
import math
import struct
import subprocess
import sys
import uuid
import zlib
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shunter.storage.errors import InvalidInput, PayloadError, TooLarge
from shunter.storage.payload import (
    HEADER_BYTES,
    MAX_BLOCK_ROWS,
    MAX_NESTING,
    decode_rows,
    encode_rows,
    from_json,
    has_nonfinite,
    row_count,
    to_json,
)

INTS = st.integers(-(2**63), 2**64 - 1)
DTYPES = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes()
    | hnp.unsigned_integer_dtypes()
    | hnp.floating_dtypes(sizes=(16, 32, 64))
)
ARRAYS = hnp.arrays(
    DTYPES | hnp.complex_number_dtypes(sizes=(64, 128)), hnp.array_shapes(min_dims=0, min_side=0)
)
LEAVES = st.none() | st.booleans() | INTS | st.floats() | st.text() | st.binary() | ARRAYS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


def same(got: object, expected: object) -> bool:
    """Equal in value and in every type, NaN and the sign of zero included; arrays become little-endian."""
    if type(got) is not type(expected):
        return False
    if isinstance(expected, np.ndarray | np.generic):
        return same_array(np.asarray(got), np.asarray(expected))
    if isinstance(got, list) and isinstance(expected, list):
        return len(got) == len(expected) and all(map(same, got, expected))
    if isinstance(got, dict) and isinstance(expected, dict):
        return list(got) == list(expected) and all(same(got[key], expected[key]) for key in got)
    if isinstance(got, float):
        return struct.pack("d", got) == struct.pack("d", expected)
    return got == expected


def same_array(got: Any, expected: Any) -> bool:
    little = expected.astype(expected.dtype.newbyteorder("<"))
    return (got.dtype, got.shape, got.tobytes()) == (little.dtype, little.shape, little.tobytes())


def round_trip(rows: list[Any]) -> list[Any]:
    block = encode_rows(rows)
    assert row_count(block) == row_count(block[:HEADER_BYTES]) == len(rows)
    return decode_rows(block)


@given(st.lists(VALUES, max_size=5))
def test_any_rows_round_trip_exactly(rows: list[Any]) -> None:
    assert same(round_trip(rows), rows)


@given(ARRAYS, st.integers(1, 5))
def test_equal_arrays_round_trip_exactly(array: Any, count: int) -> None:
    assert same(round_trip([array] * count), [array] * count)


@given(
    st.lists(hnp.from_dtype(np.dtype("<f4")), min_size=1)
    | st.lists(hnp.from_dtype(np.dtype("?")), min_size=1)
)
def test_numpy_scalars_round_trip_exactly(scalars: list[Any]) -> None:
    assert same(round_trip(scalars), scalars)
    assert same(round_trip([scalars, {"a": scalars[0]}]), [scalars, {"a": scalars[0]}])


def test_ints_stay_ints_and_floats_stay_floats() -> None:
    row = [1, 1.0, True, 0, -0.0, 2**63, 2**64 - 1, -(2**63), 1e308, math.nan, math.inf, -math.inf]
    assert same(round_trip([row]), [row])


@pytest.mark.parametrize("count", [0, 1, 2, 10_000])
def test_any_number_of_rows(count: int) -> None:
    assert round_trip([7] * count) == [7] * count
    assert len(round_trip([np.zeros(3)] * count)) == count


def test_any_sequence_of_rows_will_do() -> None:
    assert decode_rows(encode_rows((1, 2))) == [1, 2]
    assert decode_rows(encode_rows(range(3))) == [0, 1, 2]
    assert same(decode_rows(encode_rows([np.ones((2, 3))[0]])), [np.ones(3)])


def test_mixed_dtypes_and_shapes_are_kept() -> None:
    rows: list[Any] = [
        np.zeros(3),
        np.zeros(3, "f4"),
        np.zeros((3, 1)),
        np.float32(1),
        np.float64(1),
        1.0,
        np.array(1),
    ]
    for order in (rows, rows[::-1]):
        assert same(round_trip(order), order)


def test_any_memory_layout_will_do() -> None:
    base = np.arange(24, dtype="i4").reshape(4, 6)
    for array in (base.T, base[::2, ::-1], np.asfortranarray(base), base.astype(">i4"), base[:, 0], base[:0]):
        assert same(round_trip([array]), [array])
        assert same(round_trip([array, array]), [array, array])
        assert same(round_trip([{"a": array}]), [{"a": array}])


def test_stacked_arrays_are_aligned_read_only_views() -> None:
    rows = round_trip([np.arange(6.0).reshape(2, 3)] * 4)
    assert all(row.flags.aligned and not row.flags.writeable for row in rows)
    with pytest.raises(ValueError, match="read-only"):
        rows[0][0] = 1
    assert not round_trip([{"a": np.arange(3)}])[0]["a"].flags.writeable


def test_a_writable_buffer_does_not_make_writable_rows() -> None:
    block = bytearray(encode_rows([np.arange(3)]))
    (row,) = decode_rows(memoryview(block))
    assert isinstance(row, np.ndarray)
    assert not row.flags.writeable


def test_relatives_of_json_types_become_them() -> None:
    point = namedtuple("point", "x y")
    row = [
        (1, (2,)),
        point(1, 2),
        OrderedDict(a=1),
        bytearray(b"x"),
        memoryview(b"y"),
        np.str_("s"),
        np.bytes_(b"b"),
    ]
    expected = [[1, [2]], [1, 2], {"a": 1}, b"x", b"y", "s", b"b"]
    assert same(round_trip([row]), [expected])
    assert same(round_trip(row), expected)


def test_string_arrays_become_lists() -> None:
    assert round_trip([np.array(["cat", "dog"])] * 2) == [["cat", "dog"]] * 2
    assert round_trip([{"a": np.array([[b"x"]])}]) == [{"a": [[b"x"]]}]
    assert round_trip([np.array("cat"), 1]) == ["cat", 1]
    assert round_trip([np.str_("a"), np.str_("b")]) == ["a", "b"]


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 1


@dataclasses.dataclass
class Point:
    x: int = 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2**64, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        ("\ud800", "surrogate"),
        ({1: 2}, "keys must be str"),
        ({None: 2}, "keys must be str"),
        ({"\ud800": 2}, "surrogate"),
        ({1, 2}, "sorted"),
        (object(), "object does not travel: send JSON values"),
        (Colour.RED, r"\.value"),
        (Size.BIG, r"\.value"),
        (Point(), "asdict"),
        (datetime.datetime(2026, 1, 1), "isoformat"),
        (uuid.UUID(int=1), r"str\("),
        (decimal.Decimal(1), r"float\("),
        (1j, "complex128"),
        (range(3), r"list\("),
        (iter([1]), r"list\("),
        (np.array([1, "a"], dtype=object), "dtype object does not travel: send a list"),
        (np.array(["2026-01-01"], dtype="M8[D]"), "astype"),
        (np.datetime64("2026-01-01"), "astype"),
        (np.zeros(1, "i4,f4"), "dict"),
        (np.zeros(1, np.longdouble), "float64"),
        (np.longdouble(1), "float64"),
    ],
)
def test_what_does_not_travel_is_named_with_its_place_and_remedy(value: object, message: str) -> None:
    rows: list[object] = [1, {"a": [0, value], "ok": 1}]
    with pytest.raises(InvalidInput, match=message) as refused:
        encode_rows(rows)
    assert refused.value.field is not None
    assert refused.value.field.startswith("rows[1].a[1]")
    assert str(refused.value).startswith("rows[1].a[1]")
    with pytest.raises(InvalidInput, match=message) as refused:
        encode_rows([value, value])
    assert refused.value.field == "rows[0]"


def test_odd_keys_are_quoted_in_the_place() -> None:
    with pytest.raises(InvalidInput) as refused:
        encode_rows([{"my key": {"": object()}}])
    assert refused.value.field == "rows[0]['my key']['']"


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(TooLarge, match="split"):
        encode_rows(range(MAX_BLOCK_ROWS + 1))


def nested(depth: int, wrap: str) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if wrap == "list" else {"a": value} if wrap == "dict" else (value,)
    return value


@pytest.mark.parametrize("wrap", ["list", "dict", "tuple"])
@pytest.mark.parametrize("depth", [300, 5000, 100_000])
def test_deep_nesting_is_refused(wrap: str, depth: int) -> None:
    with pytest.raises(InvalidInput, match="levels deep"):
        encode_rows([nested(depth, wrap)])


def test_nesting_up_to_the_limit_round_trips() -> None:
    for wrap in ("list", "dict"):
        row = nested(MAX_NESTING, wrap)
        assert round_trip([row]) == [row]
        assert from_json(row, where="inputs[0]") == to_json(row) == row


def test_a_value_inside_itself_is_refused() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    with pytest.raises(InvalidInput, match="inside itself"):
        encode_rows([loop])


# --- bytes that nobody wrote


def frame(kind: int, count: int, body: bytes) -> bytes:
    """A block with a right checksum around any body."""
    start = struct.pack("<2sBBII", b"\xc1S", 1, kind, count, len(body))
    return start + struct.pack("<I", zlib.crc32(body, zlib.crc32(start))) + body


@given(st.binary(max_size=200))
def test_random_bytes_are_no_block(data: bytes) -> None:
    with pytest.raises(PayloadError):
        decode_rows(data)


@given(st.lists(VALUES, max_size=3), st.data())
def test_no_changed_byte_goes_unnoticed(rows: list[Any], data: st.DataObject) -> None:
    block = bytearray(encode_rows(rows))
    block[data.draw(st.integers(0, len(block) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PayloadError):
        decode_rows(bytes(block))


@given(st.lists(VALUES, max_size=3), st.data())
def test_no_cut_or_addition_goes_unnoticed(rows: list[Any], data: st.DataObject) -> None:
    block = encode_rows(rows)
    for wrong in (
        block[: data.draw(st.integers(0, len(block) - 1))],
        block + data.draw(st.binary(min_size=1)),
    ):
        with pytest.raises(PayloadError):
            decode_rows(wrong)


@given(st.integers(0, 255), st.integers(0, 2**32 - 1) | st.integers(0, 3), st.binary(max_size=100))
def test_a_wrong_body_with_a_right_checksum_raises_nothing_else(kind: int, count: int, body: bytes) -> None:
    decode_quietly(frame(kind, count, body))


@given(st.lists(VALUES, max_size=3), st.lists(ARRAYS, min_size=1, max_size=1), st.data())
def test_a_changed_body_with_a_right_checksum_raises_nothing_else(
    rows: list[Any], arrays: list[Any], data: st.DataObject
) -> None:
    for written in (rows, arrays, arrays * 3):
        block = encode_rows(written)
        body = bytearray(block[HEADER_BYTES:])
        for _ in range(data.draw(st.integers(1, 4))):
            if body:
                body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        decode_quietly(frame(block[3], len(written), bytes(body)))


def decode_quietly(block: bytes) -> None:
    """Decode, touch what comes, and accept only PayloadError."""
    try:
        rows = decode_rows(block)
    except PayloadError:
        return
    assert all(row.tobytes() is not None for row in rows if isinstance(row, np.ndarray))
    assert len(rows) == row_count(block)


@pytest.mark.parametrize(
    "body",
    [
        *(b"\x91" * depth + b"\x90" for depth in (100, 1000, 1_000_000)),
        *(b"\x81\xa1a" * depth + b"\x90" for depth in (1000, 100_000)),
        b"\xdd\xff\xff\xff\xff" * 200,
        b"\xdf\xff\xff\xff\xff" * 200,
        b"\xc6\xff\xff\xff\xff",
        b"\x91\xc7\x00\x01",
        b"\x91\xd4\x02\xff",
        b"\x91\xd4\x63\x00",
        b"\x91\x81\x01\x01",
        b"\x91\xa1\xff",
        b"",
    ],
)
def test_bombs_and_nonsense_are_calmly_refused(body: bytes) -> None:
    decode_quietly(frame(1, 1, body))


@pytest.mark.parametrize("kind", [2, 3])
@pytest.mark.parametrize("shape", [(0,), (2**63, 0), (2**64 - 1,), (2**32, 2**32), (1,) * 70])
def test_impossible_shapes_are_refused(kind: int, shape: tuple[int, ...]) -> None:
    description = struct.pack(f"<BB6x{len(shape)}Q", 11, len(shape), *shape)
    decode_quietly(frame(kind, 1000, description + b"\0" * (-len(description) % 16)))


def test_a_block_of_a_newer_format_asks_for_an_upgrade() -> None:
    block = bytearray(encode_rows([1]))
    block[2] = 9
    for read in (decode_rows, row_count):
        with pytest.raises(PayloadError, match="upgrade"):
            read(bytes(block))


def test_pickles_are_never_read() -> None:
    import pickle

    with pytest.raises(PayloadError):
        decode_rows(pickle.dumps([1]))


# --- tensors


def test_tensors_become_arrays() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3).requires_grad_()
    expected = np.arange(6, dtype="f4").reshape(2, 3)
    assert same(round_trip([tensor] * 2), [expected] * 2)
    assert same(round_trip([{"a": [tensor.T]}]), [{"a": [expected.T.copy()]}])
    assert same(
        round_trip([torch.tensor(True), torch.tensor(1 + 1j).conj()]),
        [np.array(True), np.array(1 - 1j, "c8")],
    )
    assert same(round_trip([tensor, expected]), [expected, expected])


def test_bfloat16_becomes_float32() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([1.5, -3e38, float("inf")], dtype=torch.bfloat16)
    assert same(round_trip([tensor]), [tensor.float().numpy()])


def test_tensors_that_numpy_cannot_hold_are_refused_with_the_remedy() -> None:
    torch = pytest.importorskip("torch")
    for tensor in (torch.zeros(2).to(torch.float8_e4m3fn), torch.eye(2).to_sparse()):
        with pytest.raises(InvalidInput, match=r"rows\[1\]\.a: .*to_dense"):
            encode_rows([1, {"a": tensor}])
        with pytest.raises(InvalidInput, match=r"rows\[0\]: .*float\(\)"):
            encode_rows([tensor])


def test_the_codec_does_not_import_torch() -> None:
    program = "import sys, shunter.storage.payload as p; p.encode_rows([1]); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "False"


# --- JSON


def test_bytes_travel_as_base64_in_json() -> None:
    row = {"image": b"\x00\xff", "list": [b"", {"deep": b"x"}], "n": 1, "none": None}
    text = json.dumps(to_json(row))
    assert '{"$bytes": "AP8="}' in text
    assert from_json(json.loads(text), where="inputs[0]") == row


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | INTS
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text()
        | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    )
)
def test_json_values_and_bytes_round_trip_through_json(value: Any) -> None:
    assert same(from_json(json.loads(json.dumps(to_json(value), allow_nan=False)), where="x"), value)


def test_arrays_become_lists_in_json() -> None:
    assert to_json([np.arange(4).reshape(2, 2), np.float32(0.5), np.array(True)]) == [
        [[0, 1], [2, 3]],
        0.5,
        True,
    ]
    assert to_json(np.array([1 + 2j])) == [[1.0, 2.0]]
    assert to_json({"a": np.zeros((0, 3))}) == {"a": []}
    assert json.dumps(to_json([np.bool_(True), np.int64(3), np.complex64(1j)])) == "[true, 3, [0.0, 1.0]]"


NONFINITE = [math.nan, math.inf, [1.0, math.nan], [1, -math.inf], {"a": [{"b": math.nan}]}, np.float16("nan")]
NONFINITE += [
    np.array([[1, np.inf]]),
    [np.array(complex(0, math.nan))],
    ["x", None, math.nan],
    [[1.0], [math.inf]],
]


@pytest.mark.parametrize("value", NONFINITE)
def test_nonfinite_values_are_found_and_have_no_json_form(value: object) -> None:
    assert has_nonfinite(value)
    with pytest.raises(ValueError, match="no JSON form"):
        to_json(value)


@pytest.mark.parametrize(
    "value", [None, 1, 1.5, "nan", b"nan", [1.0, 2], [], {}, {"a": [1e308, 1e308]}, np.arange(3), np.zeros(0)]
)
def test_finite_values_are_finite(value: object) -> None:
    assert not has_nonfinite(value)


@pytest.mark.parametrize("text", ["AP8", "A", "!!!!", "AP8=\n", "AP_-", "ä", 1, None, ["AP8="], {"a": 1}])
def test_bad_base64_is_refused_with_its_place(text: object) -> None:
    with pytest.raises(InvalidInput, match="base64") as refused:
        from_json({"a": [1, {"$bytes": text}]}, where="inputs[3]")
    assert refused.value.field == "inputs[3].a[1]"


def test_a_bytes_key_among_others_is_a_key() -> None:
    value = {"$bytes": "AP8=", "other": 1}
    assert from_json(value, where="x") == value


def test_deep_json_is_refused() -> None:
    for wrap in ("list", "dict"):
        with pytest.raises(InvalidInput, match="levels deep"):
            from_json(nested(100_000, wrap), where="inputs[0]")
