"""The demo's own checks: each kind of wrong answer is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shunter.demo_checks import (
    Answer,
    accuracy,
    check,
    check_embeddings,
    histogram,
    padding,
    slowest_stage,
)

EXPECTED = np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32)
RIGHT = [
    Answer("job.0", "succeeded", 0, {"digit": 0, "probabilities": [0.9, 0.1]}),
    Answer("job.1", "succeeded", 1, {"digit": 1, "probabilities": EXPECTED[1]}),
]


def test_right_answers_have_no_problems() -> None:
    assert check(RIGHT, EXPECTED) == []


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"state": "failed", "output": None}, "job.1 is failed"),
        ({"output": {"digit": 0, "probabilities": EXPECTED[1]}}, "job.1 reads 0, a direct forward reads 1"),
        ({"output": {"digit": 1, "probabilities": [0.2001, 0.7999]}}, "job.1 differs"),
        ({"output": {"digit": 1, "probabilities": [0.8]}}, "job.1 differs"),
        ({"id": "job.0"}, "job.0 was answered 2 times"),
        ({"image": 0, "output": RIGHT[0].output}, "image 1 was never answered"),
    ],
)
def test_a_wrong_answer_is_found(wrong: dict[str, object], problem: str) -> None:
    answers = [RIGHT[0], replace(RIGHT[1], **wrong)]  # type: ignore[arg-type]
    assert [found for found in check(answers, EXPECTED) if found.startswith(problem)]


def test_accuracy_is_the_share_that_names_the_label() -> None:
    assert accuracy(RIGHT, np.array([0, 0])) == 0.5


def test_the_histogram_begins_with_the_largest_batches() -> None:
    lines = histogram({"7": 1, "256": 4})
    assert [line.split()[0] for line in lines] == ["256", "7"]
    assert [line.count("█") for line in lines] == [40, 10]


def test_the_slowest_stage_is_told_with_its_share_and_waiting_is_no_stage() -> None:
    seconds = {"wait": 9.0, "preprocess": 1.0, "forward": 3.0, "postprocess": 0.0}
    assert slowest_stage(seconds) == ("forward", 0.75)


def test_embeddings_are_held_against_direct_ones_in_order() -> None:
    expected = np.eye(3, dtype=np.float32)
    outputs = [{"embedding": line} for line in expected]
    assert check_embeddings(outputs, expected) == []
    assert check_embeddings(outputs[:2], expected) == ["2 outputs for 3 texts"]
    nan = {"embedding": np.full(3, np.nan, np.float32)}
    assert [problem[:6] for problem in check_embeddings([outputs[1], None, nan], expected)] == [
        "text 0",
        "text 1",
        "text 2",
    ]


def test_padding_is_a_share_of_all_tokens() -> None:
    assert padding([{"tokens": 6, "padded_to": 8}, {"tokens": 2, "padded_to": 8}]) == 0.5
