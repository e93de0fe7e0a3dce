"""Ray Data: files in, batches through an actor, results out, no queue and no job."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from benchmarks.celery_peer import RESULTS
from benchmarks.contestants.celery import COUNT
from benchmarks.contestants.hand import rows_file
from benchmarks.contestants.shunter import DRAIN_WITHIN_S
from benchmarks.figures import Run
from benchmarks.rig import Process, Rig, peer_venv, tell, wait_for
from benchmarks.usage import used_by

WARM_UP = 1024


@dataclass
class RayData:
    """One Ray for all runs, warm before the clock runs; each run is one `map_batches` over a Parquet file."""

    name: str = "Ray Data 2.60"
    settings: str = "2 CPUs, Ray started beforehand, Parquet, one actor, batches of 1024, a COPY each"
    first: int = 300_000
    step: int = 300_000
    """Each run starts its actor anew, for seconds: with fewer rows nothing else is measured."""
    _bench: Rig = field(init=False, repr=False)
    _ray: Process = field(init=False, repr=False)

    def prepare(self, bench: Rig) -> None:
        self._bench = bench
        bench.ask(RESULTS)
        ready = bench.directory / "ray-data.ready"
        command = [str(peer_venv("ray")), "-m", "benchmarks.peers.ray_data_program"]
        self._ray = bench.start("ray-data", command, talks=True, BENCH_READY=str(ready))
        wait_for(lambda: self._ray.alive() and ready.exists(), "Ray is ready")
        self.run(WARM_UP)
        bench.level()

    def run(self, items: int) -> Run:
        path = rows_file(self._bench, "Parquet", items)
        with used_by(self._ray.pid) as usage:
            began = time.perf_counter()
            tell(self._ray, str(path))
            wait_for(
                lambda: self._ray.alive() and self._bench.value(COUNT) >= items,
                "every result is there",
                within_s=DRAIN_WITHIN_S,
            )
            seconds = time.perf_counter() - began
        return Run(items, seconds, usage.cpu_s, usage.rss_bytes)
