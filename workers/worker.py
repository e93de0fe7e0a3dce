"""One worker process, from its parts to its end."""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

from shunter.storage import failpoints
from shunter.storage.database import Database
from shunter.storage.job_adoption import JobAdoption
from shunter.storage.job_facts import JobFactsReader
from shunter.storage.job_repair import JobRepair
from shunter.storage.job_repository import JobRepository
from shunter.storage.job_retention import JobRetention, Keep
from shunter.storage.memory_ceilings import MemoryCeilings
from shunter.storage.model_registry import ModelRegistry
from shunter.storage.object_store import open_object_store
from shunter.storage.object_sweep import ObjectSweep
from shunter.storage.quarantine import Quarantine
from shunter.storage.scoring.retention import ScoringRetention
from shunter.storage.settings import Settings
from shunter.storage.worker_registry import DEFAULT_POOL, WorkerRegistry
from shunter.workers.adopter import Adopter
from shunter.workers.celery_app import create_app
from shunter.workers.consumer import EXIT_HUB_FAILED, CeleryWire, attach
from shunter.workers.devices import name_after, read_device
from shunter.workers.housekeeping import Expiry, Housekeeper, Unserved, Upkeep
from shunter.workers.hub import Hub
from shunter.workers.lists import Lists
from shunter.workers.membership import Identity
from shunter.workers.meter import default_budget, meter_of
from shunter.workers.model_watch import ModelsDirectory, ModelWatch
from shunter.workers.places import Places
from shunter.workers.relay import Relay
from shunter.workers.remote_control import Revoker
from shunter.workers.rescuer import Rescuer
from shunter.workers.retention import Retention, Sweep
from shunter.workers.schedule_firing import ScheduleFiring
from shunter.workers.scoring_finisher import ScoringFinisher
from shunter.workers.scoring_planner import ScoringPlanner
from shunter.workers.scoring_reporter import ScoringReporter
from shunter.workers.scoring_retention import ForgetScorings
from shunter.workers.services import Services

log = logging.getLogger(__name__)

COLLECT_AFTER = 50_000
"""The collector of cycles looks at a hub's objects after so many new ones: a bunch of a few hundred jobs is
thousands that live until it is settled, and to look through them again and again finds nothing."""

HOUSEKEEPING_GRACE_S = 1.0
"""A duty that takes longer is cut short by the end of the process: others go on with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What one worker serves, and where."""

    name: str = ""
    """What Flower calls it; none means after its pool and device."""
    pool: str = DEFAULT_POOL
    device: str = "cpu"
    """cpu or cuda:N."""
    models: tuple[str, ...] = ()
    """Names to serve; none means every model found, now or later."""
    memory: int | None = None
    """Bytes that its engines may take together; None means no limit on a CPU, most of a GPU."""


def run_worker(settings: Settings, options: WorkerOptions) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Raises SettingsError, ModelConfigError or Unavailable when it cannot begin.
    """
    failpoints.arm()
    settings.require("database_url", "redis_url", "object_store", "models")
    directory = ModelsDirectory(Path(settings.models), options.models)
    models = directory.read()
    device = read_device(options.device)
    budget = default_budget(device) if options.memory is None else options.memory
    database = Database(settings.database_url)
    models_registry = ModelRegistry(database)
    models_registry.register(models)
    lists, wire, repository = Lists(settings.redis_url), CeleryWire(), JobRepository(database)
    registry, repair = WorkerRegistry(database), JobRepair(database)
    store = open_object_store(settings.object_store)
    scoring_news = threading.Event()
    host, meter = socket.gethostname(), meter_of(device)
    name = f"{options.name or name_after(options.pool, device)}@{host}"
    hub = Hub(
        identity=Identity(name=name, host=host, pid=os.getpid(), device=device, pool=options.pool),
        models=models,
        services=Services(
            repository=repository,
            registry=registry,
            quarantine=Quarantine(database),
            adopter=Adopter(JobAdoption(database), models_registry, store),
            ceilings=MemoryCeilings(database),
            lists=lists,
            object_store=settings.object_store,
            chunk_ended=scoring_news.set,
        ),
        wire=wire,
        places=Places(meter, budget=budget),
    )
    app = create_app(settings.redis_url, hub.queues)
    threading.excepthook = _end_with_the_thread
    hub.start()
    revoker = Revoker(repository.cancel)
    attach(app, hub, wire, revoker)
    watch = ModelWatch(directory, models_registry, hub.models_changed)
    rescuer = Rescuer(repair, registry, lists, wire.tell)
    housekeepers = (
        Housekeeper(
            [rescuer, Relay(repair, lists), Expiry(repair), Unserved(repair), Upkeep(repair, registry)]
        ),
        # Apart: rescues do not wait until everything old is removed, or for somebody's files.
        _forgetting(settings, database, repair),
        Housekeeper([ScoringPlanner(repair, lists), ScoringFinisher(repair)], news=scoring_news),
        # Apart: looking into a night's files may take longer than planning can wait.
        Housekeeper([ScheduleFiring(repair, models_registry, registry, store_url=settings.object_store)]),
        Housekeeper([ScoringReporter(repair, store, price=settings.price_per_device_hour)]),
    )
    try:
        worker = app.Worker(
            hostname=name,
            without_gossip=True,
            without_mingle=True,
            quiet=True,
            loglevel=logging.getLogger().level,
        )
        # What starting made stays for good: the collector need not look at it again, for every few messages.
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER)
        worker.start()
    finally:
        for housekeeper in housekeepers:
            housekeeper.stop(HOUSEKEEPING_GRACE_S)
        watch.stop()
        hub.stop()
        meter.stop()
        revoker.stop()
        lists.close()
        database.close()
    return int(worker.exitcode or 0)


def _forgetting(settings: Settings, database: Database, repair: JobRepair) -> Housekeeper:
    keep = Keep(keep_s=settings.keep_s, keep_failed_s=settings.keep_failed_s)
    store = open_object_store(settings.object_store)
    sweep = ObjectSweep(JobFactsReader(database), store)
    scorings = ScoringRetention(database, store, keep)
    jobs = Retention(repair, JobRetention(database, keep))
    return Housekeeper([jobs, Sweep(repair, sweep), ForgetScorings(repair, scorings)])


def _end_with_the_thread(ended: threading.ExceptHookArgs) -> None:
    """Without one of its threads a worker only looks alive; once it has ended, others get its jobs."""
    if ended.exc_type is SystemExit:
        return
    name = ended.thread.name if ended.thread is not None else "?"
    log.critical("the thread %s failed; this worker ends at once", name, exc_info=ended.exc_value)
    os._exit(EXIT_HUB_FAILED)
