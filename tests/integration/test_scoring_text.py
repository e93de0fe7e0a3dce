"""Scorings of JSONL and CSV, with the usual dirt: each bad row fails alone, and says why."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pytest

from shunter.storage.errors import InvalidInput
from shunter.storage.scoring.text import MAX_RECORD_BYTES
from tests.scoring_fleet import ScoringFleet, scoring_fleet, write_lines


@pytest.fixture
def fleet(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[ScoringFleet]:
    with scoring_fleet(database_url, redis_url, tmp_path) as fleet:
        yield fleet


def told(fleet: ScoringFleet) -> list[tuple[int, str]]:
    """Which rows failed, and with which code."""
    return [(line["row"], line["code"]) for line in fleet.errors()]


def test_lines_of_json_are_scored_in_their_order(fleet: ScoringFleet) -> None:
    write_lines(fleet.directory / "in.jsonl", [b'{"id": "n%d", "x": %d}' % (n, n) for n in range(20)])
    status = fleet.score("in.jsonl", columns=["x"], key="id")
    assert (status.total, status.succeeded) == (20, 20)
    assert fleet.rows() == [{"id": f"n{n}", "prediction": 2 * n} for n in range(20)]


def test_bare_values_need_no_columns(fleet: ScoringFleet) -> None:
    write_lines(fleet.directory / "in.jsonl", [b"1", b"2"])
    fleet.score("in.jsonl", format="jsonl")
    lines = (fleet.directory / "out" / "part-000000.jsonl").read_text().splitlines()
    assert lines == ['{"prediction":2}', '{"prediction":4}']


def test_bad_lines_of_json_fail_alone(fleet: ScoringFleet) -> None:
    lines = [
        b'\xef\xbb\xbf{"x": 1}\r',  # a byte order mark, and the line end of Windows
        b'{"x": 2',
        b"",
        b'{"x": "\xff"}',
        b'{"y": 3}',
        b'{"x": NaN}',
        b"7",
        b'{"x": {"$bytes": "?"}}',
        b'{"x": 4}',
    ]
    write_lines(fleet.directory / "in.jsonl", lines)
    status = fleet.score("in.jsonl", columns=["x"])
    assert fleet.rows() == [{"prediction": 2}, {"prediction": 8}]
    assert told(fleet) == [
        (1, "bad_row"),
        (2, "bad_encoding"),
        (3, "missing_column"),
        (4, "bad_row"),
        (5, "bad_row"),
        (6, "bad_row"),
    ]
    assert (status.succeeded, status.failed) == (2, 6)


def test_a_row_of_a_hundred_megabytes_fails_unread(fleet: ScoringFleet) -> None:
    with (fleet.directory / "in.jsonl").open("wb") as file:
        file.write(b"1\n" + b'"' + b"x" * (100 << 20) + b'"\n' + b"2\n")
    status = fleet.score("in.jsonl")
    assert fleet.rows() == [{"prediction": 2}, {"prediction": 4}]
    assert told(fleet) == [(1, "row_too_large")]
    assert status.total == 3


def test_the_cells_of_a_csv_have_the_types_of_their_columns(fleet: ScoringFleet) -> None:
    lines = [b"id,x,weight,note", b"007,1,0.5,fine", b'8a,2,1,"a, ""b"""', b"9,3,,"]
    write_lines(fleet.directory / "in.csv", lines)
    fleet.score("in.csv", columns=["x"], keep=["id", "weight", "note"])
    assert fleet.rows() == [
        {"id": "007", "weight": 0.5, "note": "fine", "prediction": 2},
        {"id": "8a", "weight": 1.0, "note": 'a, "b"', "prediction": 4},
        {"id": "9", "weight": None, "note": "", "prediction": 6},
    ]


def test_bad_lines_of_a_csv_fail_alone(fleet: ScoringFleet) -> None:
    good = [b"%d,n%d" % (n, n) for n in range(1000)]
    bad = [b"1,2,3", b"many,n", b"1,\xff", b"5,n5\r", b'6,"two\nlines"', b'1,"never closed', b"8,n8"]
    write_lines(fleet.directory / "in.csv", [b"\xef\xbb\xbfx,name", *good, *bad])
    status = fleet.score("in.csv", columns=["x"], keep=["name"], chunk_rows=600)
    assert told(fleet) == [(1000, "bad_row"), (1001, "bad_row"), (1002, "bad_encoding"), (1005, "bad_row")]
    assert [row["prediction"] for row in fleet.rows()[-3:]] == [10, 12, 16]
    assert fleet.rows()[-2]["name"] == "two\nlines"
    assert (status.succeeded, status.failed) == (1003, 4)


def test_files_of_csv_with_different_columns_are_refused(fleet: ScoringFleet) -> None:
    write_lines(fleet.directory / "a.csv", [b"x", b"1"])
    write_lines(fleet.directory / "b.csv", [b"y", b"1"])
    with pytest.raises(InvalidInput, match=r"b\.csv begins with y, .* with x"):
        fleet.begin("*.csv")


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_text_is_read_like_any_other(fleet: ScoringFleet, suffix: str) -> None:
    plain = b"".join(b'{"x": %d}\n' % n for n in range(30))
    path = fleet.directory / f"in.jsonl.{suffix}"
    with pa.CompressedOutputStream(str(path), {"gz": "gzip", "zst": "zstd"}[suffix]) as file:
        file.write(plain)
    status = fleet.score(path.name, columns=["x"], model=lambda row: row * 2 if row != 11 else 1 // 0)
    assert [row["prediction"] for row in fleet.rows()] == [2 * n for n in range(30) if n != 11]
    assert status.failed == 1
    again = fleet.scorer.retry_errors(UUID(status.id), output=None, version=None)
    fleet.end(again)
    assert fleet.rows("out/retry-v1") == [{"prediction": 22}]


def test_a_bomb_is_refused(fleet: ScoringFleet) -> None:
    bomb = gzip.compress(b"x" * (80 << 20))
    (fleet.directory / "in.jsonl.gz").write_bytes(gzip.compress(b"1\n") + bomb)
    status = fleet.score("in.jsonl.gz")
    assert (status.state, status.error and status.error["code"]) == ("failed", "unreadable_input")


def test_a_record_just_small_enough_is_read(fleet: ScoringFleet) -> None:
    room = MAX_RECORD_BYTES - 3
    write_lines(fleet.directory / "in.jsonl", [b'"' + b"x" * room + b'"', b'"' + b"x" * (room + 2) + b'"'])
    status = fleet.score("in.jsonl", model=len)
    assert (status.succeeded, told(fleet)) == (1, [(1, "row_too_large")])
    assert fleet.rows() == [{"prediction": MAX_RECORD_BYTES - 3}]


def test_output_may_be_csv(fleet: ScoringFleet) -> None:
    write_lines(fleet.directory / "in.csv", [b"x,name", b'1,"a,b"', b"2,c"])
    fleet.score("in.csv", columns=["x"], keep=["name"], format="csv")
    assert (fleet.directory / "out" / "part-000000.csv").read_text() == 'name,prediction\n"a,b",2\nc,4\n'
