"""PgBouncer before Postgres, in transaction mode: no session outlives a transaction."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from shunter.embedded.identity import identity_for
from shunter.embedded.ports import HOST, free_port
from shunter.embedded.server import log_tail, tethered
from tests.waiting import wait_until

# As few connections as there may be: whoever keeps one for itself starves the others.
CONFIGURATION = """
[databases]
{database} = host={host} port={server_port} dbname={database} user={user}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 8
max_client_conn = 500
server_reset_query =
server_login_retry = 1
logfile = {directory}/pgbouncer.log
"""


def program() -> str | None:
    """Where PgBouncer is on this machine; None if it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def pgbouncer(directory: Path, database_url: str) -> Iterator[str]:
    """A PgBouncer before this Postgres; its URL."""
    found, parts, port = program(), urlsplit(database_url), free_port()
    assert found is not None, "apt-get install pgbouncer"
    directory.mkdir()
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(
        CONFIGURATION.format(
            database=parts.path.lstrip("/"),
            user=parts.username,
            host=HOST,
            server_port=parts.port,
            port=port,
            directory=directory,
        )
    )
    # Like Postgres it refuses to run as root.
    command = [*identity_for(directory).wrapper, found, str(configuration)]
    process = subprocess.Popen(
        tethered(command, death_signal=signal.SIGKILL),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = urlunsplit(parts._replace(netloc=f"{parts.username}@{HOST}:{port}", query="sslmode=disable"))

    def answers() -> bool:
        assert process.poll() is None, log_tail(directory / "pgbouncer.log")
        with suppress(psycopg2.OperationalError):
            psycopg2.connect(url, connect_timeout=2).close()
            return True
        return False

    try:
        wait_until(answers, 30)
        yield url
    finally:
        process.kill()
        process.wait()
