"""What the demo checks of every result, and what it tells of the run; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-5
LEAST_COSINE = 0.9999
WORST_SHOWN = 5
BAR_WIDTH = 40
STAGES = ("preprocess", "forward", "postprocess")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one image: how its job or item ended, and its output."""

    id: str
    state: str
    image: int
    output: Any


def check(answers: Sequence[Answer], expected: NDArray[np.float32]) -> list[str]:
    """Everything that is wrong with the answers to `expected`, which holds one line per image."""
    problems = [problem for answer in answers if (problem := _problem(answer, expected[answer.image]))]
    problems += [f"{id} was answered {n} times" for id, n in Counter(a.id for a in answers).items() if n > 1]
    missing = set(range(len(expected))) - {answer.image for answer in answers}
    problems += [f"image {image} was never answered" for image in sorted(missing)]
    return problems


def accuracy(answers: Sequence[Answer], labels: NDArray[np.int64]) -> float:
    """The share of answers that name the true digit."""
    right = [bool(answer.output["digit"] == labels[answer.image]) for answer in answers]
    return sum(right) / len(right)


def check_embeddings(outputs: Sequence[Any], expected: NDArray[np.float32]) -> list[str]:
    """Everything that is wrong with the embeddings of texts, which have length one and come in order."""
    if len(outputs) != len(expected):
        return [f"{len(outputs)} outputs for {len(expected)} texts"]
    problems = []
    for text, (output, direct) in enumerate(zip(outputs, expected, strict=True)):
        cosine = float(output["embedding"] @ direct) if output is not None else None
        if cosine is None:
            problems.append(f"text {text} has no output")
        elif not cosine >= LEAST_COSINE:
            problems.append(f"text {text} has a cosine of {cosine:.4f} with its direct forward")
    return problems


def padding(outputs: Sequence[Any]) -> float:
    """The share of padding in all tokens that went through the model."""
    return 1 - sum(int(o["tokens"]) for o in outputs) / sum(int(o["padded_to"]) for o in outputs)


def histogram(sizes: Mapping[str, int]) -> list[str]:
    """A bar for each batch size that occurred, most rows first."""
    if not sizes:
        return []
    most = max(sizes.values())
    return [
        f"{int(size):>5} rows  {'█' * max(1, round(BAR_WIDTH * count / most))} {count}"
        for size, count in sorted(sizes.items(), key=lambda item: -int(item[0]))
    ]


def slowest_stage(seconds: Mapping[str, float]) -> tuple[str, float]:
    """The stage of the worker that took the most time in all, and its share of all stages."""
    total = sum(seconds.get(stage, 0.0) for stage in STAGES) or 1.0
    slowest = max(STAGES, key=lambda stage: seconds.get(stage, 0.0))
    return slowest, seconds.get(slowest, 0.0) / total


def _problem(answer: Answer, expected: NDArray[np.float32]) -> str | None:
    if answer.state != "succeeded":
        return f"{answer.id} is {answer.state}, not succeeded"
    probabilities = np.asarray(answer.output["probabilities"], dtype=np.float32)
    if answer.output["digit"] != int(expected.argmax()):
        return f"{answer.id} reads {answer.output['digit']}, a direct forward reads {expected.argmax()}"
    if probabilities.shape != expected.shape or np.abs(probabilities - expected).max() > TOLERANCE:
        return f"{answer.id} differs from a direct forward by more than {TOLERANCE:g}"
    return None
