"""Whole fleets for acceptance tests: real processes on this machine, one fleet for each test module."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from shunter.local_fleet import FleetOptions, LocalFleet

DOUBLE = """
class Model:
    def forward(self, rows):
        return [row * 2 for row in rows]
"""


def write_model(models: Path, name: str, source: str, *, version: int = 1, toml: str = "") -> Path:
    """Put a version of a model into a models directory, in one step; returns its directory."""
    unfinished = models / f".{name}-{version}"
    unfinished.mkdir(parents=True)
    (unfinished / "model.py").write_text(source)
    (unfinished / "model.toml").write_text(toml)
    (models / name).mkdir(exist_ok=True)
    return unfinished.rename(models / name / str(version))


@contextmanager
def running_fleet(
    directory: Path, models: Mapping[str, str] | Path, *, workers: int = 1, flower: bool = False
) -> Iterator[LocalFleet]:
    """A fleet with its data below `directory`, which serves a models directory or these `model.py` texts."""
    if isinstance(models, Mapping):
        for name, source in models.items():
            write_model(directory / "models", name, source)
        models = directory / "models"
    options = FleetOptions(
        data=directory / "data", models=models, port=0, flower=flower, flower_port=0, workers=workers
    )
    with LocalFleet(options, say=lambda message: print(message, file=sys.stderr)) as fleet:
        yield fleet


def fleet_of(
    models: Mapping[str, str] | Path, *, workers: int = 1, flower: bool = False
) -> Callable[..., object]:
    """A fixture that starts one fleet per module.

    Example:
        >>> fleet = fleet_of({"double": DOUBLE})
        >>> def test_it_doubles(fleet: LocalFleet) -> None:
        ...     assert Client(settings=fleet.settings).submit("double", [2]).outputs() == [4]
    """

    @pytest.fixture(scope="module")
    def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
        directory = tmp_path_factory.mktemp("fleet")
        with running_fleet(directory, models, workers=workers, flower=flower) as started:
            yield started

    return fleet
