"""A whole fleet on one machine: services, API, workers and Flower, which live and die with this process."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self

from shunter.data_directory import DataDirectory, Record
from shunter.embedded import EmbeddedServiceError
from shunter.embedded.ports import HOST, free_port, is_free
from shunter.embedded.server import log_tail
from shunter.local_services import LocalServices
from shunter.storage.errors import ModelConfigError, SettingsError, Unavailable
from shunter.storage.settings import Settings
from shunter.supervisor import ChildSpec, Say, Supervisor

DEFAULT_DATA = Path("shunter-data")
DEFAULT_MODELS = Path("models")
DEFAULT_PORT = 8000
FLOWER_PORT = 5555

READY_WITHIN_S = 120.0
HOPELESS_AFTER_ENDS = 3
"""A child that ends so often before the fleet is ready makes the start fail."""

WORKER_STOP_S = 30.0  # a worker gives back what it cannot finish in less
FRONT_STOP_S = 10.0  # requests under way are given half of it
POLL_S = 0.05
ANSWER_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """What a local fleet is made of; services whose URLs `external` holds are used, not started.

    Port 0 is any free one; `flower_port` None is any free one too, 5555 if possible. `device` is cpu, or
    cuda for all GPUs; `workers` None is one per device. `pool` and `memory` are those of each worker.
    `author_models` is where models are written, if `models` are copies of them.
    """

    data: Path = DEFAULT_DATA
    models: Path = DEFAULT_MODELS
    port: int = DEFAULT_PORT
    flower: bool = True
    flower_port: int | None = None
    workers: int | None = None
    device: str = "cpu"
    pool: str | None = None
    memory: str | None = None
    author_models: Path | None = None
    external: Settings = field(default_factory=Settings)


class LocalFleet:
    """Starts on `start` or `with`, in the main thread; `mend` it now and then; `stop` leaves nothing running.

    Example:
        >>> with LocalFleet(FleetOptions(models=Path("models"), port=0)) as fleet:
        ...     Client(settings=fleet.settings).submit("sentiment", ["fine"]).outputs()
    """

    def __init__(self, options: FleetOptions, say: Say = lambda _: None) -> None:
        self.options = options
        self.directory = DataDirectory(options.data)
        self.models = options.models.expanduser().absolute()
        self.settings = options.external
        self.flower_url: str | None = None
        self._say = say
        self._undo = ExitStack()
        self._workers_started = False
        self._workers = worker_devices(find_devices(options.device), options.workers)
        self._told: set[str] = set()

    @property
    def api_url(self) -> str:
        """Where the HTTP API answers."""
        return self.settings.api_url

    @property
    def pids(self) -> list[int]:
        """Every process of the fleet but the engines, which are the workers' own."""
        return [*self._supervisor.pids().values(), *self._services.pids]

    def start(self) -> None:
        """Return when the API answers and a worker beats; all or nothing.

        Raises SettingsError (a port or directory is taken), Unavailable (something does not start).
        """
        self._check_ports()
        with ExitStack() as undo:
            undo.callback(self.directory.hold().release)
            self.directory.write(replace(self.directory.read(), ready=False))
            self._start_services(undo)
            self._start_front(undo)
            undo.callback(self._stop_workers)
            self._start_workers()
            self._wait_until_ready()
            self._write_record(ready=True)
            self._undo = undo.pop_all()

    def mend(self) -> None:
        """Start what has died, and workers once there is a model: every second or so, in the main thread."""
        try:
            for name in self._services.mend():
                self._say(f"{name} had died and was started again")
        except EmbeddedServiceError as error:
            self._tell_once(str(error))
        if not self._workers_started:
            self._start_workers()

    def unfinished_versions(self, model: str) -> set[int]:
        """The versions of a model that have jobs or scorings to run; from any thread. Raises Unavailable."""
        from shunter.storage.database import Database
        from shunter.storage.queue_depth import unfinished_versions

        with closing(Database(self.settings.database_url, pool_size=1)) as database:
            return unfinished_versions(database, model)

    def stop(self) -> None:
        """Drain the workers, then end everything in order; calling it twice is fine."""
        self._undo.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _check_ports(self) -> None:
        for option, port in (("--port", self.options.port), ("--flower-port", self.options.flower_port)):
            if port and not is_free(port):
                raise SettingsError(
                    f"port {port} is taken: stop what listens there, or choose another with {option} "
                    "(0 takes a free one)",
                    field=option,
                )

    def _start_services(self, undo: ExitStack) -> None:
        from shunter.migrations import migrate

        self._services = LocalServices(self.directory.path, self.options.external, self.directory.read())
        self.settings = self._services.start()
        undo.callback(self._services.stop)
        self._write_record(ready=False)
        undo.callback(self._write_record, ready=False)
        migrate(self.settings.database_url)

    def _start_front(self, undo: ExitStack) -> None:
        port = self.options.port or free_port()
        self.settings = replace(
            self.settings,
            api_url=f"http://{HOST}:{port}",
            models=str(self.models),
            data=str(self.directory.path),
        )
        self._supervisor = Supervisor(self._say)
        undo.callback(self._supervisor.close)
        self._add("api", "api", "--host", HOST, "--port", str(port), stop_within_s=FRONT_STOP_S)
        if self.options.flower:
            self._start_flower()

    def _start_flower(self) -> None:
        if importlib.util.find_spec("flower") is None:
            self._say("Flower is not installed: pip install 'shunter[flower]', or say --no-flower")
            return
        wanted = self.options.flower_port
        port = wanted or (FLOWER_PORT if wanted is None and is_free(FLOWER_PORT) else free_port())
        self.flower_url = f"http://{HOST}:{port}"
        self._add("flower", "flower", "--host", HOST, "--port", str(port), stop_within_s=FRONT_STOP_S)

    def _start_workers(self) -> None:
        """Start them if there is a model to serve; a worker without one would have nothing to listen to."""
        if not self._has_models():
            return
        self._workers_started = True
        given = {"--pool": self.options.pool, "--memory": self.options.memory}
        shared = [word for option, value in given.items() if value for word in (option, value)]
        for name, device in self._workers.items():
            arguments = ("worker", "--name", name, "--device", device, *shared)
            self._add(name, *arguments, stop_within_s=WORKER_STOP_S)

    def _stop_workers(self) -> None:
        self._supervisor.stop(self._workers)

    def _has_models(self) -> bool:
        from shunter.storage.model_registry import scan

        try:
            found = scan(self.models)
        except ModelConfigError:
            self._tell_no_models()
            return False
        if not found.versions:
            for failure in found.failures:
                self._tell_once(f"model_config: {failure}")
            self._tell_no_models()
        return bool(found.versions)

    def _tell_no_models(self) -> None:
        place = self.options.author_models or self.models
        self._tell_once(
            f"no model to serve in {place}: put a class Model with a forward(self, rows) into "
            f"{place}/NAME/1/model.py, and the worker starts by itself"
        )

    def _tell_once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._say(message)

    def _add(self, name: str, *arguments: str, stop_within_s: float) -> None:
        safe = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
        self._supervisor.add(
            ChildSpec(
                name=name,
                arguments=arguments,
                environment={**os.environ, **self.settings.environment(), **safe},
                log_file=self.directory.logs / f"{name}.log",
                stop_within_s=stop_within_s,
            )
        )

    def _wait_until_ready(self) -> None:
        self._wait(self._api_answers, "the API does not answer")
        if self._workers_started:
            self._wait(self._a_worker_beats, "no worker has registered")

    def _wait(self, is_true: Callable[[], bool], failure: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not is_true():
            for name, ends in self._supervisor.ends().items():
                if ends >= HOPELESS_AFTER_ENDS:
                    log_file = self.directory.logs / f"{name}.log"
                    raise Unavailable(
                        f"{name} ended {ends} times; its last log lines were\n{log_tail(log_file)}\n"
                        f"Mend what they name (the whole log is {log_file}) and start again."
                    )
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{failure} after {READY_WITHIN_S:.0f} s: look into the logs in {self.directory.logs}"
                )
            time.sleep(POLL_S)

    def _api_answers(self) -> bool:
        return self._ask("/readyz") is not None

    def _a_worker_beats(self) -> bool:
        # Asked through the API: another fleet's, which took the port first, does not know our workers.
        told = self._ask("/v1/workers") or {"workers": []}
        ours, host = set(self._supervisor.pids().values()), socket.gethostname()
        return any(w["live"] and w["host"] == host and w["pid"] in ours for w in told["workers"])

    def _ask(self, path: str) -> Any:
        """What our API answers; None if it does not, or not yet."""
        connection = HTTPConnection(self.api_url.removeprefix("http://"), timeout=ANSWER_WITHIN_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return json.load(answer) if answer.status == HTTPStatus.OK else None
        except (OSError, HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def _write_record(self, *, ready: bool) -> None:
        written = self.options.author_models or self.models
        self.directory.write(
            Record(
                environment=replace(self.settings, models=str(written)).environment(),
                embedded=self._services.embedded,
                ports=self._services.ports or self.directory.read().ports,
                ready=ready,
            )
        )


def find_devices(kind: str) -> list[str]:
    """The devices of a kind on this machine; SettingsError if there is none."""
    if kind == "cpu":
        return ["cpu"]
    from shunter.workers.meter import gpus

    found = gpus()
    if not found:
        raise SettingsError("nvidia-smi finds no GPU here: leave --device cuda away", field="--device")
    return found


def worker_devices(devices: Sequence[str], workers: int | None) -> dict[str, str]:
    """The names of so many workers, one per device if None, and the device of each: all in turn."""
    count = len(devices) if workers is None else workers
    return {f"worker-{number + 1}": devices[number % len(devices)] for number in range(count)}
