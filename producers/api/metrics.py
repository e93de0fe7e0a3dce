"""What Prometheus reads of the API: its requests, and the queue as Postgres has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shunter.storage.batch_report import split_key
from shunter.storage.errors import Unavailable
from shunter.storage.queue_depth import Depth
from shunter.storage.worker_registry import Worker

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One app's metrics, in a registry of its own."""

    def __init__(
        self, depths: Callable[[], Sequence[Depth]], workers: Callable[[], Sequence[Worker]]
    ) -> None:
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
        self._registry.register(_Batches(workers))

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


class _Batches(Collector):
    """What live workers tell of their batches; a worker's counters begin anew when it does."""

    def __init__(self, workers: Callable[[], Sequence[Worker]]) -> None:
        self._workers = workers

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        labels = ["worker", "model", "version"]
        batches = CounterMetricFamily("shunter_batches", "Batches run.", labels=[*labels, "reason"])
        seconds = CounterMetricFamily("shunter_batch_seconds", "Spent on batches.", labels=[*labels, "stage"])
        rows = CounterMetricFamily("shunter_batch_rows", "Rows run in batches.", labels=labels)
        full = CounterMetricFamily("shunter_batch_full_rows", "Rows if all had been full.", labels=labels)
        tokens = CounterMetricFamily("shunter_batch_tokens", "Tokens in batches.", labels=labels)
        padded = CounterMetricFamily("shunter_batch_padded_tokens", "Tokens with padding.", labels=labels)
        busy = GaugeMetricFamily("shunter_model_busy_ratio", "Of the last minute in forward.", labels=labels)
        try:
            present = self._workers()
        except Unavailable:
            return ()
        for worker in present:
            for key, told in worker.stats.items() if worker.live else ():
                model, version = split_key(key)
                names = [worker.name, model, str(version)]
                for reason, count in told.get("reasons", {}).items():
                    batches.add_metric([*names, reason], count)
                for stage, spent in told.get("seconds", {}).items():
                    seconds.add_metric([*names, stage], spent)
                for metric, field in (
                    (rows, "rows"),
                    (full, "full_rows"),
                    (tokens, "tokens"),
                    (padded, "padded_tokens"),
                    (busy, "busy"),
                ):
                    metric.add_metric(names, told.get(field, 0))
        return batches, seconds, rows, full, tokens, padded, busy


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
