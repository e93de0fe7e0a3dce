"""Models that come and go while a worker runs."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

from shunter import Client
from shunter.local_fleet import LocalFleet
from shunter.storage.database import Database
from shunter.storage.worker_registry import WorkerRegistry
from tests.acceptance.fleet import DOUBLE, running_fleet, write_model
from tests.waiting import wait_until

TRIPLE = DOUBLE.replace("* 2", "* 3")


def served(fleet: LocalFleet) -> set[tuple[str, int]]:
    """The model versions that the only worker serves."""
    with closing(Database(fleet.settings.database_url)) as database:
        (worker,) = WorkerRegistry(database).present()
    return {(serving.model, serving.version) for serving in worker.serves}


def test_what_is_published_is_served_without_a_restart_and_what_is_removed_is_not(tmp_path: Path) -> None:
    models = tmp_path / "models"
    with running_fleet(tmp_path, {"old": DOUBLE}) as fleet, Client(settings=fleet.settings) as client:
        assert client.submit("old", [1]).outputs() == [2]
        write_model(models, "old", TRIPLE, version=2)
        write_model(models, "new", TRIPLE)
        wait_until(lambda: served(fleet) == {("old", 1), ("old", 2), ("new", 1)}, 30)
        assert client.submit("new", [1]).outputs() == [3]
        assert client.submit("old", [1], version=2).outputs() == [3]
        assert client.submit("old", [1], version=1).outputs() == [2]
        shutil.rmtree(models / "old" / "1")
        shutil.rmtree(models / "new")
        wait_until(lambda: served(fleet) == {("old", 2)}, 30)
        waiting = client.submit("new", [1]).status().waiting
        assert waiting is not None
        assert waiting.code == "no_worker"
        write_model(models, "new", DOUBLE)
        assert client.submit("new", [1]).outputs() == [2]
