"""RQ, Dramatiq, Taskiq and Ray Serve, each with one worker and a sender in its own environment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.celery_peer import RESULTS
from benchmarks.contestants.celery import COUNT
from benchmarks.contestants.shunter import DRAIN_WITHIN_S
from benchmarks.figures import Run
from benchmarks.rig import Process, Rig, peer_venv, tell, wait_for
from benchmarks.usage import used_by

WARM_UP = 20


@dataclass
class Other:
    """One worker that inserts each result when it is known; the clock runs from the first sent."""

    name: str
    settings: str
    peer: str
    serve: Sequence[str]
    send: Sequence[str]
    says_ready: bool = False
    """Whether its worker touches BENCH_READY; the others are known to be ready by their first results."""
    first: int = 200
    step: int = 1
    _bench: Rig = field(init=False, repr=False)
    _worker: Process = field(init=False, repr=False)
    _sender: Process = field(init=False, repr=False)

    def prepare(self, bench: Rig) -> None:
        self._bench = bench
        bench.ask(RESULTS)
        python = str(peer_venv(self.peer))
        ready = bench.directory / f"{self.peer}.ready"
        self._worker = bench.start(f"{self.peer}-worker", [python, *self.serve], BENCH_READY=str(ready))
        if self.says_ready:
            wait_for(lambda: self._worker.alive() and ready.exists(), f"{self.name} is ready")
        self._sender = bench.start(f"{self.peer}-sender", [python, *self.send], talks=True)
        self.run(WARM_UP)
        bench.level()

    def run(self, items: int) -> Run:
        with used_by(self._worker.pid) as usage:
            began = time.perf_counter()
            tell(self._sender, str(items))
            wait_for(
                lambda: self._worker.alive() and self._sender.alive() and self._bench.value(COUNT) >= items,
                "every result is there",
                within_s=DRAIN_WITHIN_S,
            )
            seconds = time.perf_counter() - began
        return Run(items, seconds, usage.cpu_s, usage.rss_bytes)


def rq() -> Other:
    """The worker that runs tasks in its own process: a fork for each would be slower."""
    program = "benchmarks.peers.rq_program"
    settings = "SimpleWorker, each result by one INSERT, none kept in Redis"
    return Other("RQ 3.0", settings, "rq", ["-m", program, "worker"], ["-m", program, "send"])


def dramatiq() -> Other:
    """One process, one thread."""
    program = "benchmarks.peers.dramatiq_program"
    serve = ["-m", "dramatiq", program, "-p", "1", "-t", "1", "-Q", "peer"]
    settings = "1 process, 1 thread, each result by one INSERT"
    return Other("Dramatiq 2.2", settings, "dramatiq", serve, ["-m", program])


def taskiq() -> Other:
    """One process; as many tasks under way as it likes."""
    program = "benchmarks.peers.taskiq_program"
    serve = ["-m", "taskiq", "worker", f"{program}:broker", "--workers", "1", "--log-level", "WARNING"]
    settings = "Redis stream, 1 worker, each result by one INSERT"
    return Other("Taskiq 0.13", settings, "taskiq", serve, ["-m", program])


def ray_serve() -> Other:
    """One replica of its asynchronous inference, which runs a Celery worker inside."""
    program = "benchmarks.peers.ray_serve_program"
    settings = (
        "asynchronous inference, 1 replica, each result by one INSERT; its adapter also keeps one in Redis"
    )
    return Other(
        "Ray Serve 2.60", settings, "ray", ["-m", program, "worker"], ["-m", program, "send"], says_ready=True
    )
