"""What `shunter up --reload` publishes, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.reloading import Reloader
from shunter.storage.errors import DatabaseUnavailable, SettingsError, ShunterError
from tests.waiting import wait_until

MODEL = "class Model:\n    def forward(self, rows):\n        return [{} * row for row in rows]\n"


class Workshop:
    """An author's models, what is served of them, and what was said."""

    def __init__(self, directory: Path) -> None:
        self.source = directory / "models"
        self.served = directory / "served"
        self.said: list[str] = []
        self.busy: set[int] = set()
        self.reloader = Reloader(
            self.source, self.served, say=self.said.append, unfinished=lambda _: self.busy
        )

    def write(self, source: str, name: str = "double", version: int = 1) -> None:
        directory = self.source / name / str(version)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "model.py").write_text(source)

    def versions(self, name: str = "double") -> list[str]:
        return sorted(path.name for path in (self.served / name).iterdir() if path.is_dir())


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_a_change_is_the_next_version_and_no_change_is_none(workshop: Workshop) -> None:
    workshop.write(MODEL.format(2))
    assert workshop.reloader.publish_changed() == ["double"]
    assert workshop.reloader.publish_changed() == []
    workshop.write(MODEL.format(3))
    assert workshop.reloader.publish_changed() == ["double"]
    assert workshop.versions() == ["1", "2"]
    assert "3 * row" in (workshop.served / "double" / "2" / "model.py").read_text()
    assert workshop.said == ["double is published as version 1", "double is published as version 2"]


def test_what_was_served_before_a_restart_is_not_published_again(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write(MODEL.format(2))
    workshop.reloader.publish_changed()
    assert Workshop(tmp_path).reloader.publish_changed() == []


def test_settings_beside_the_versions_count_as_a_change(workshop: Workshop) -> None:
    workshop.write(MODEL.format(2))
    workshop.reloader.publish_changed()
    (workshop.source / "double" / "model.toml").write_text("[batching]\nmax_rows = 4\n")
    assert workshop.reloader.publish_changed() == ["double"]
    (workshop.source / "double" / "model.toml").unlink()
    assert workshop.reloader.publish_changed() == ["double"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("model.py", "class Model("), ("model.toml", "max_row = 3"), ("model.toml", "[batching")],
)
def test_what_cannot_be_read_is_told_and_the_others_are_published(
    workshop: Workshop, name: str, text: str
) -> None:
    workshop.write(MODEL.format(2), "broken")
    workshop.reloader.publish_changed()
    (workshop.source / "broken" / "1" / name).write_text(text)
    workshop.write(MODEL.format(2))
    assert workshop.reloader.publish_changed() == ["double"]
    assert workshop.versions("broken") == ["1"]
    assert any(line.startswith("broken is served as it was before: ") for line in workshop.said)


def test_old_versions_go_once_no_job_needs_them(workshop: Workshop) -> None:
    for factor in range(4):
        workshop.write(MODEL.format(factor))
        workshop.reloader.publish_changed()
    workshop.busy = {1}
    workshop.reloader.retire("double")
    assert workshop.versions() == ["1", "3", "4"]
    workshop.busy = set()
    workshop.reloader.retire("double")
    assert workshop.versions() == ["3", "4"]


@pytest.mark.parametrize("error", [DatabaseUnavailable("out"), SettingsError("no Postgres yet")])
def test_versions_stay_while_nobody_knows_which_are_needed(workshop: Workshop, error: ShunterError) -> None:
    def unknown(_: str) -> set[int]:
        raise error

    for factor in range(3):
        workshop.write(MODEL.format(factor))
        workshop.reloader.publish_changed()
    Reloader(workshop.source, workshop.served, say=print, unfinished=unknown).retire("double")
    assert workshop.versions() == ["1", "2", "3"]


def test_a_version_that_cannot_be_removed_is_told(workshop: Workshop, tmp_path: Path) -> None:
    for factor in range(3):
        workshop.write(MODEL.format(factor))
        workshop.reloader.publish_changed()
    oldest = workshop.served / "double" / "1"
    oldest.rename(tmp_path / "elsewhere")
    oldest.symlink_to(tmp_path / "elsewhere")
    workshop.reloader.retire("double")
    assert workshop.said[-1].startswith("old versions of double stay: ")


def test_a_file_that_is_saved_is_noticed(workshop: Workshop) -> None:
    workshop.write(MODEL.format(2))
    workshop.reloader.publish_changed()
    workshop.reloader.start()
    try:
        # Until the watch is set up, a change is not seen: it is made again, as somebody does who saves twice.
        factors = iter(range(3, 10_000))

        def saved_and_published() -> bool:
            workshop.write(MODEL.format(next(factors)))
            return len(workshop.said) > 1

        wait_until(saved_and_published, 30)
    finally:
        workshop.reloader.stop()
