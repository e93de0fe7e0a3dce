"""Collects the facts of a fleet: from its services, its tables and the models directory of this host."""

from __future__ import annotations

import socket
from contextlib import closing

from shunter.doctor.facts import Facts, FleetFacts, PostgresFacts, Refusal
from shunter.doctor.probes import (
    count_envelopes,
    probe_object_store,
    probe_postgres,
    probe_redis,
    refused,
)
from shunter.migrations import newest_revision
from shunter.storage.database import Database
from shunter.storage.model_registry import ModelRegistry, Scan, scan
from shunter.storage.quarantine import Quarantine
from shunter.storage.queue_depth import queued_versions
from shunter.storage.settings import Settings
from shunter.storage.software import VERSION
from shunter.storage.worker_registry import WorkerRegistry


def collect(settings: Settings) -> Facts:
    """Everything that can be asked; what cannot stands as a Refusal."""
    newest = newest_revision()
    postgres, fleet = _database_facts(settings, newest)
    redis = refused(lambda: probe_redis(settings))
    return Facts(
        software=VERSION,
        host=socket.gethostname(),
        newest_revision=newest,
        postgres=postgres,
        redis=redis,
        envelopes=None if isinstance(redis, Refusal) else count_envelopes(settings),
        object_store=refused(lambda: probe_object_store(settings)),
        fleet=fleet,
        models=_scan(settings),
    )


def _database_facts(settings: Settings, newest: str) -> tuple[PostgresFacts | Refusal, FleetFacts | Refusal]:
    url = refused(lambda: settings.require("database_url").database_url)
    if isinstance(url, Refusal):
        return url, url
    with closing(Database(url, pool_size=1)) as database:
        postgres = refused(lambda: probe_postgres(database))
        if isinstance(postgres, Refusal):
            return postgres, postgres
        if postgres.revision is None:
            return postgres, Refusal("the database has no tables of Shunter")
        fleet = refused(lambda: _fleet_facts(database))
    return postgres, fleet


def _fleet_facts(database: Database) -> FleetFacts:
    workers = WorkerRegistry(database)
    return FleetFacts(
        workers=workers.present(),
        silent_ends=workers.silent_ends(),
        models=ModelRegistry(database).list(),
        queued=queued_versions(database),
        quarantined=len(Quarantine(database).ids()),
    )


def _scan(settings: Settings) -> Scan | Refusal | None:
    directory = settings.models_directory
    return None if directory is None else refused(lambda: scan(directory))
