"""Shunter: an asynchronous, queue-based fleet of batch inference workers."""

from shunter.producers.client import Client
from shunter.producers.handles import Item, Job
from shunter.producers.status import JobStatus
from shunter.storage.errors import (
    AlreadyFinished,
    Conflict,
    EmptyRows,
    IdempotencyConflict,
    InvalidInput,
    ItemNotCancellable,
    JobFailed,
    NotFound,
    RowError,
    RowsFailed,
    SettingsError,
    ShunterError,
    TooLarge,
    Transient,
    Unauthorized,
    Unavailable,
    UnknownJob,
    UnknownModel,
    WaitTimeout,
    WorkFailed,
)
from shunter.storage.outcome import RowFailure
from shunter.storage.software import VERSION as __version__
from shunter.temporary_fleet import local

__all__ = [
    "AlreadyFinished",
    "Client",
    "Conflict",
    "EmptyRows",
    "IdempotencyConflict",
    "InvalidInput",
    "Item",
    "ItemNotCancellable",
    "Job",
    "JobFailed",
    "JobStatus",
    "NotFound",
    "RowError",
    "RowFailure",
    "RowsFailed",
    "SettingsError",
    "ShunterError",
    "TooLarge",
    "Transient",
    "Unauthorized",
    "Unavailable",
    "UnknownJob",
    "UnknownModel",
    "WaitTimeout",
    "WorkFailed",
    "__version__",
    "local",
]
