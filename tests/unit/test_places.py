"""The books on engines in memory: estimates, measurements, refusals, waiting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from shunter.storage.errors import SettingsError
from shunter.storage.sizes import format_size, parse_size
from shunter.workers.devices import name_after, read_device
from shunter.workers.memory import Choice
from shunter.workers.meter import Reading
from shunter.workers.places import RUNTIME, Places

A, B, C = ("a", 1), ("b", 1), ("c", 1)
MIB = 2**20


class Gauge:
    """Says what a test has it say."""

    def __init__(self) -> None:
        self.readings: dict[int, Reading] = {}
        self.watched: Sequence[int] = ()

    def watch(self, pids: Sequence[int]) -> None:
        self.watched = pids

    def of(self, pid: int) -> Reading | None:
        return self.readings.get(pid)


@pytest.fixture
def gauge() -> Gauge:
    return Gauge()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A version of one MiB."""
    (tmp_path / "weights").write_bytes(bytes(MIB))
    return tmp_path


def busy(_: tuple[str, int]) -> bool:
    return True


def test_a_first_load_is_estimated_and_the_next_is_what_was_measured(gauge: Gauge, directory: Path) -> None:
    places = Places(gauge, budget=2 * RUNTIME)
    places.want(A, directory, now=0)
    assert places.waits(A)
    assert places.choose(0, busy) == Choice((A,))
    places.started(A, 7, now=0)
    assert (places.used, places.measured(A), gauge.watched) == (RUNTIME + MIB, None, [7])
    places.loaded(A, 1.0, now=1)
    gauge.readings[7] = Reading(40 * MIB, at=2)
    places.choose(2, busy)
    places.gone(A)
    assert (places.used, places.measured(A), places.loads(A), places.waits(A)) == (0, 40 * MIB, 1, False)
    places.want(B, directory, now=3)
    places.started(B, 8, now=3)
    assert places.used == 40 * MIB, "what A needed beside its files, and the files of B"


def test_what_was_read_before_the_model_was_loaded_measures_nothing(gauge: Gauge, directory: Path) -> None:
    places = Places(gauge, budget=RUNTIME)
    places.started(A, 7, now=0)
    gauge.readings[7] = Reading(9 * MIB, at=0.9)
    places.loaded(A, 1.0, now=1)
    places.choose(1, busy)
    assert places.measured(A) is None


def test_files_larger_than_the_budget_are_refused_with_both_figures(gauge: Gauge, directory: Path) -> None:
    places = Places(gauge, budget=MIB // 2)
    places.want(A, directory, now=0)
    assert "files alone have 1 MiB, and --memory allows 512 KiB" in str(places.refusal(A))
    assert places.choose(0, busy) == Choice()


def test_an_engine_that_outgrows_the_budget_is_refused_from_then_on(gauge: Gauge, directory: Path) -> None:
    places = Places(gauge, budget=100 * MIB)
    places.want(A, directory, now=0)
    places.started(A, 7, now=0)
    gauge.readings[7] = Reading(101 * MIB, at=1)
    places.choose(1, busy)
    assert "engine takes 101 MiB, and --memory allows 100 MiB" in places.outgrown()[A]
    places.gone(A)
    places.want(A, directory, now=2)
    assert places.choose(2, busy) == Choice()
    assert places.outgrown() == {}


def test_a_removed_model_is_forgotten_so_that_another_may_take_its_number(
    gauge: Gauge, directory: Path
) -> None:
    places = Places(gauge, budget=MIB // 2)
    places.want(A, directory, now=0)
    places.forget(A)
    assert (places.refusal(A), places.waits(A)) == (None, False)


def test_a_model_whose_jobs_have_gone_elsewhere_gets_no_place(gauge: Gauge, directory: Path) -> None:
    places = Places(gauge, budget=2 * RUNTIME)
    for key in (A, B):
        places.want(key, directory, now=0)
    assert places.choose(0, lambda key: key == B) == Choice((B,))


def test_the_first_wish_keeps_its_place_in_line(gauge: Gauge, directory: Path) -> None:
    places = Places(gauge, budget=2 * RUNTIME)
    for now, key in enumerate((A, B, A)):
        places.want(key, directory, now=now)
    assert places.choose(9, busy) == Choice((A,))


@pytest.mark.parametrize(
    ("text", "size"), [("20GiB", 20 * 2**30), ("1.5 MiB", 3 * 2**19), ("8GB", 8 * 10**9), ("7B", 7)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "20", "GiB", "-1GiB", "0GiB", "20 gibs", "20GiBs", "1e9B"])
def test_what_is_no_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match=r"is no amount of memory: .* 20GiB"):
        parse_size(text)


def test_sizes_are_written_for_people() -> None:
    sizes = (0, 1023, 1024, 3 * 2**29, 2**50)
    assert [format_size(size) for size in sizes] == ["0 B", "1023 B", "1 KiB", "1.5 GiB", "1024 TiB"]


def test_devices_are_read_and_workers_named_after_them() -> None:
    assert [read_device(text) for text in ("cpu", "cuda", "cuda:3")] == ["cpu", "cuda:0", "cuda:3"]
    for text in ("gpu", "cuda:", "cuda:x", "CPU"):
        with pytest.raises(SettingsError, match="is no device"):
            read_device(text)
    assert [name_after("default", "cuda:1"), name_after("text", "cpu")] == ["gpu1", "text-cpu"]
