"""How a model version stands on a worker, as the worker registry shows it."""

from __future__ import annotations

from shunter.storage.serving import ServingState
from shunter.storage.worker_registry import Serving
from shunter.workers.engine_handle import EngineHandle
from shunter.workers.holdings import ModelKey
from shunter.workers.places import Places


def standing(
    key: ModelKey, engine: EngineHandle | None, places: Places, *, now: float, failure: str | None = None
) -> Serving:
    """What the worker says of one of its model versions; `failure` is why it could not be loaded."""
    error = places.refusal(key) or failure
    return Serving(
        *key,
        state=_state(engine, waits=places.waits(key), failed=error is not None),
        error=error,
        loads=places.loads(key),
        memory_bytes=places.measured(key),
        at_work=None if engine is None else engine.at_work(now),
    )


def _state(engine: EngineHandle | None, *, waits: bool, failed: bool) -> ServingState:
    if engine is not None and engine.stopping:
        return ServingState.UNLOADING
    if engine is not None and engine.loaded:
        return ServingState.READY
    if failed:
        return ServingState.FAILED
    if engine is not None:
        return ServingState.LOADING
    return ServingState.WAITING_FOR_MEMORY if waits else ServingState.IDLE
