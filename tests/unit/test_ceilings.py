"""How many rows fit is learnt once, for all buckets that it says something about."""

from __future__ import annotations

from shunter.storage.ceiling import Ceiling
from shunter.workers.ceilings import Ceilings
from shunter.workers.memory_kind import memory_kind


def test_nothing_is_known_at_first() -> None:
    assert Ceilings().limit("None", 0) is None
    assert Ceilings().limit("16", 16) is None


def test_a_lower_ceiling_is_news_and_another_is_not() -> None:
    ceilings = Ceilings()
    ceilings.learn("cpu", ())
    assert ceilings.lower("A", 8, 0) == Ceiling("cpu", "A", 8)
    assert ceilings.lower("A", 8, 0) is None
    assert ceilings.lower("A", 9, 0) is None
    assert ceilings.lower("A", 4, 0) == Ceiling("cpu", "A", 4)
    assert (ceilings.limit("A", 0), ceilings.limit("B", 0)) == (4, None)


def test_where_rows_count_tokens_one_bucket_informs_the_others() -> None:
    ceilings = Ceilings()
    ceilings.learn("gpu", ())
    assert ceilings.lower("64", 16, 64) == Ceiling("gpu", "64", 16, 1024)
    assert ceilings.limit("16", 16) == 64
    assert ceilings.limit("512", 512) == 2
    assert ceilings.limit("4096", 4096) == 1, "a row alone is always tried"


def test_only_ceilings_of_the_same_kind_of_device_hold() -> None:
    ceilings = Ceilings()
    ceilings.learn("small", [Ceiling("small", "A", 4), Ceiling("large", "A", 2), Ceiling("large", "B", 2)])
    assert (ceilings.limit("A", 0), ceilings.limit("B", 0)) == (4, None)


def test_a_device_is_known_by_its_memory_and_not_by_its_host() -> None:
    assert memory_kind("cpu").startswith("cpu ")
    assert memory_kind("cpu").endswith(" GiB")
    assert memory_kind("made-up") == "made-up"
