"""One worker process, from its parts to its end."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shunter.storage import failpoints
from shunter.storage.database import Database
from shunter.storage.errors import SettingsError
from shunter.storage.job_adoption import JobAdoption
from shunter.storage.job_repair import JobRepair
from shunter.storage.job_repository import JobRepository
from shunter.storage.model_registry import ModelRegistry, ModelVersion, scan
from shunter.storage.object_store import open_object_store
from shunter.storage.quarantine import Quarantine
from shunter.storage.settings import Settings
from shunter.storage.worker_registry import WorkerRegistry
from shunter.workers.adopter import Adopter
from shunter.workers.celery_app import create_app
from shunter.workers.consumer import EXIT_HUB_FAILED, CeleryWire, attach
from shunter.workers.housekeeping import Expiry, Housekeeper, Unserved, Upkeep
from shunter.workers.hub import Hub, Identity, Services
from shunter.workers.lists import Lists
from shunter.workers.relay import Relay
from shunter.workers.remote_control import Revoker
from shunter.workers.rescuer import Rescuer
from shunter.workers.scoring_finisher import ScoringFinisher
from shunter.workers.scoring_planner import ScoringPlanner

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What one worker serves, and where."""

    name: str = "worker"
    device: str = "cpu"
    models: tuple[str, ...] = ()
    """Names to serve; none means every model found."""


def run_worker(settings: Settings, options: WorkerOptions) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Raises SettingsError, ModelConfigError or Unavailable when it cannot begin.
    """
    failpoints.arm()
    settings.require("database_url", "redis_url", "object_store", "models")
    models = find_models(Path(settings.models), options.models)
    database = Database(settings.database_url)
    models_registry = ModelRegistry(database)
    models_registry.register(models)
    lists, wire, repository = Lists(settings.redis_url), CeleryWire(), JobRepository(database)
    registry, repair = WorkerRegistry(database), JobRepair(database)
    host = socket.gethostname()
    hub = Hub(
        identity=Identity(name=f"{options.name}@{host}", host=host, pid=os.getpid(), device=options.device),
        models=models,
        services=Services(
            repository=repository,
            registry=registry,
            quarantine=Quarantine(database),
            adopter=Adopter(JobAdoption(database), models_registry, open_object_store(settings.object_store)),
            lists=lists,
            object_store=settings.object_store,
        ),
        wire=wire,
    )
    app = create_app(settings.redis_url, hub.queues)
    threading.excepthook = _end_with_the_thread
    hub.start()
    revoker = Revoker(repository.cancel)
    attach(app, hub, wire, revoker)
    rescuer = Rescuer(repair, registry, lists, wire.tell)
    duties = Housekeeper(
        [rescuer, Relay(repair, lists), Expiry(repair), Unserved(repair), Upkeep(repair, registry)]
    )
    # Apart from the others, which must not wait for somebody's files.
    scorings = Housekeeper([ScoringPlanner(repair, lists), ScoringFinisher(repair)])
    try:
        worker = app.Worker(
            hostname=f"{options.name}@{host}",
            without_gossip=True,
            without_mingle=True,
            quiet=True,
            loglevel=logging.getLogger().level,
        )
        worker.start()
    finally:
        scorings.stop()
        duties.stop()
        hub.stop()
        revoker.stop()
        lists.close()
        database.close()
    return int(worker.exitcode or 0)


def _end_with_the_thread(ended: threading.ExceptHookArgs) -> None:
    """Without one of its threads a worker only looks alive; once it has ended, others get its jobs."""
    if ended.exc_type is SystemExit:
        return
    name = ended.thread.name if ended.thread is not None else "?"
    log.critical("the thread %s failed; this worker ends at once", name, exc_info=ended.exc_value)
    os._exit(EXIT_HUB_FAILED)


def find_models(directory: Path, names: Sequence[str]) -> list[ModelVersion]:
    """The models to serve; what is wrong with the others is logged, and does not stop these."""
    found = scan(directory)
    for failure in found.failures:
        log.error("%s", failure)
    missing = sorted(set(names) - {model.name for model in found.versions})
    if missing:
        known = ", ".join(sorted({model.name for model in found.versions})) or "none"
        raise SettingsError(
            f"no model {', '.join(missing)} in {directory} (found: {known}): "
            "check --models and SHUNTER_MODELS"
        )
    return [model for model in found.versions if not names or model.name in names]
