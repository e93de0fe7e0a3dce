"""The demo's own checks: each kind of wrong answer is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shunter.demo_checks import Answer, accuracy, check, histogram, slowest_stage

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
