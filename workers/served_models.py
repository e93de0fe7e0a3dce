"""The model versions that a worker serves, and the Celery queues that they make it consume."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from shunter.storage.envelope import queue_name
from shunter.storage.model_registry import ModelVersion
from shunter.workers.holdings import ModelKey
from shunter.workers.model_watch import ModelsChanged
from shunter.workers.wire import Wire

log = logging.getLogger(__name__)


class ServedModels(dict[ModelKey, ModelVersion]):
    """By name and version; changed in place, since a hub's parts all look here."""

    def __init__(self, models: Iterable[ModelVersion]) -> None:
        super().__init__(((model.name, model.version), model) for model in models)

    @property
    def queues(self) -> list[str]:
        """The Celery queues of these models."""
        return sorted({queue_name(name) for name, _ in self})

    def change(self, mail: ModelsChanged, wire: Wire) -> list[ModelKey]:
        """Serve what is new, and no longer what is gone; returns what was served until now."""
        before = set(self.queues)
        withdrawn = [key for key in mail.removed if self.pop(key, None) is not None]
        for key in withdrawn:
            log.warning("%s version %d was removed from the models: it is served no longer", *key)
        for model in mail.added:
            log.info("%s version %d was published: it is served from now on", model.name, model.version)
            self[model.name, model.version] = model
        after = set(self.queues)
        for queue in after - before:
            wire.serve(queue)
        for queue in before - after:
            wire.leave(queue)
        return withdrawn
