"""Starts a real Postgres for one machine."""

import signal
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection

from shunter.embedded.cluster import PROGRAM_NAME, SUPERUSER, ensure_cluster, find_postgres
from shunter.embedded.directory import DirectoryLock, lock_directory, stop_leftovers
from shunter.embedded.identity import identity_for
from shunter.embedded.ports import HOST, start_on_port
from shunter.embedded.programs import ServerProgram
from shunter.embedded.server import EmbeddedServer, Launch, keep_last_log, run_until_ready

DATABASE = "shunter"
READY_WITHIN_S = 120.0  # after a kill, the log is replayed first
STOP_WITHIN_S = 20.0
PROBE_TIMEOUT_S = 2
# For a laptop with two cores, and as durable as a server.
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path may have 107 bytes only
    "max_connections": "200",
    "shared_buffers": "256MB",
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "fsync": "on",
    "synchronous_commit": "on",
    "jit": "off",  # our statements are short
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def start_postgres(directory: Path, *, port: int | None = None) -> EmbeddedServer:
    """Start Postgres on loopback with its data in this directory; it dies with this process."""
    directory = directory.resolve()
    data = directory / "data"
    with ExitStack() as undo:
        lock = lock_directory(directory)
        undo.callback(lock.release)
        program = find_postgres(data)
        stop_leftovers(data, frozenset({PROGRAM_NAME}), signal.SIGINT)
        keep_last_log(directory / "postgres.log")
        server = start_on_port(port, lambda chosen: _start(program, data, chosen, lock))
        undo.pop_all()
    return server


def _start(program: ServerProgram, data: Path, port: int, lock: DirectoryLock) -> EmbeddedServer:
    identity = identity_for(data)
    ensure_cluster(program, data, identity)
    # With the directory locked and its leftovers stopped, this can only be stale, and its pid a stranger's.
    (data / "postmaster.pid").unlink(missing_ok=True)
    settings = (word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}"))
    launch = Launch(
        command=(str(program.path), "-D", str(data), "-p", str(port), *settings),
        directory=data.parent,
        log_file=data.with_name("postgres.log"),
        stop_signal=signal.SIGINT,  # "fast": ends connections, writes a checkpoint
        ready_within_s=READY_WITHIN_S,
        stop_within_s=STOP_WITHIN_S,
        identity=identity,
    )
    process = run_until_ready(launch, lambda _: _is_ready(port, data))
    url = f"postgresql://{SUPERUSER}@{HOST}:{port}/{DATABASE}"
    return EmbeddedServer(url, port, launch, process, lock)


def _is_ready(port: int, data: Path) -> bool:
    """Whether the server of this very directory answers; makes our database when it is not there yet."""
    try:
        with closing(_connect(port)) as server, server.cursor() as cursor:
            cursor.execute("SHOW data_directory")
            if cursor.fetchone() != (str(data),):
                return False
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {DATABASE}")
    except psycopg2.OperationalError:
        return False
    return True


def _connect(port: int) -> connection:
    server = psycopg2.connect(
        host=HOST,
        port=port,
        user=SUPERUSER,
        dbname="postgres",
        connect_timeout=PROBE_TIMEOUT_S,
        sslmode="disable",
    )
    server.autocommit = True
    return server
