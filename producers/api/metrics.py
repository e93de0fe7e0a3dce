"""What Prometheus reads of the API: its requests, and the queue as Postgres has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shunter.storage.errors import Unavailable
from shunter.storage.queue_depth import Depth

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One app's metrics, in a registry of its own."""

    def __init__(self, depths: Callable[[], Sequence[Depth]]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "shunter_api_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "shunter_api_request_seconds",
            "Time to answer, waits included.",
            ["route"],
            registry=self._registry,
        )
        self._registry.register(_Queue(depths))

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Queue(Collector):
    """Gauges read from Postgres when somebody looks; left out while it does not answer."""

    def __init__(self, depths: Callable[[], Sequence[Depth]]) -> None:
        self._depths = depths

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        jobs = GaugeMetricFamily("shunter_queued_jobs", "Jobs that wait.", labels=["model", "priority"])
        age = GaugeMetricFamily(
            "shunter_oldest_queued_seconds", "Age of the oldest job that waits.", labels=["model", "priority"]
        )
        try:
            depths = self._depths()
        except Unavailable:
            return ()
        for depth in depths:
            jobs.add_metric([depth.model, depth.priority.label], depth.jobs)
            age.add_metric([depth.model, depth.priority.label], depth.oldest_s)
        return jobs, age


class CountRequests:
    """Counts and times each request, by the route that took it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            # Not the path: an id in a label would make a time series of each job.
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(scope["method"], route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - began)
