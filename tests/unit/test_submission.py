"""Options are refused at once, with the field and the remedy."""

from typing import Any

import pytest

from shunter.producers.submission import MAX_KEY_CHARS, Options
from shunter.storage.errors import InvalidInput, TooLarge
from shunter.storage.metadata import MAX_METADATA_BYTES


def test_the_defaults_are_fine() -> None:
    assert Options().priority == "standard"


@pytest.mark.parametrize(
    "fine",
    [
        {"version": 1},
        {"priority": "interactive"},
        {"deadline_s": 0.5},
        {"deadline_s": 86_400},
        {"idempotency_key": "nightly 2026-01-02 ü"},
        {"metadata": {"run": [1, None, {"a": "b"}]}},
        {"metadata": {}},
    ],
)
def test_good_values_are_kept(fine: dict[str, Any]) -> None:
    options = Options(**fine)
    assert {name: getattr(options, name) for name in fine} == fine


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 0),
        ("version", True),
        ("version", "3"),
        ("version", 2**31),
        ("priority", "urgent"),
        ("priority", "STANDARD"),
        ("deadline_s", 0),
        ("deadline_s", -1),
        ("deadline_s", float("nan")),
        ("deadline_s", float("inf")),
        ("deadline_s", True),
        ("deadline_s", "10"),
        ("idempotency_key", ""),
        ("idempotency_key", "a\nb"),
        ("idempotency_key", "k" * (MAX_KEY_CHARS + 1)),
        ("idempotency_key", 7),
        ("metadata", {1: 2}),
        ("metadata", {"a": object()}),
        ("metadata", {"a": "nul \x00"}),
    ],
)
def test_bad_values_are_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Options(**{field: value})  # type: ignore[arg-type]
    assert refusal.value.field == field


def test_large_metadata_are_refused_as_too_large() -> None:
    with pytest.raises(TooLarge, match="keep it in your own store"):
        Options(metadata={"text": "x" * MAX_METADATA_BYTES})


def test_a_key_is_refused_where_several_jobs_are_made() -> None:
    with pytest.raises(InvalidInput, match="give one to each submit"):
        Options(idempotency_key="k").refuse_key("submit_many")
