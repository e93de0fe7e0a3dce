"""The embedded services: they keep their data through any kill, and never outlive their owner."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import psycopg2
import pytest
import redis

from shunter.embedded import EmbeddedServer, EmbeddedServiceError, start_postgres, start_redis
from shunter.embedded.ports import HOST, free_port, start_on_port
from shunter.embedded.redis import find_redis
from tests.waiting import wait_until

OWNER = """
import sys
from pathlib import Path
from shunter.embedded import start_postgres, start_redis
directory = Path(sys.argv[1])
with start_redis(directory / "redis") as redis, start_postgres(directory / "postgres") as postgres:
    print(redis.pid, postgres.pid, flush=True)
    sys.stdin.read()
"""


def test_redis_keeps_its_data_through_a_kill(tmp_path: Path) -> None:
    with start_redis(tmp_path) as server:
        put(server, "wagon", "7")
        kill(server)
    with start_redis(tmp_path) as server:
        assert get(server, "wagon") == "7"


def test_redis_without_persistence_forgets(tmp_path: Path) -> None:
    with start_redis(tmp_path, persistence=False) as server:
        put(server, "wagon", "7")
    with start_redis(tmp_path, persistence=False) as server:
        assert get(server, "wagon") is None


def test_postgres_keeps_its_data_through_a_kill(tmp_path: Path) -> None:
    with start_postgres(tmp_path) as server:
        execute(server, "CREATE TABLE wagon AS SELECT 7 AS number")
        kill(server)
    with start_postgres(tmp_path) as server:
        assert execute(server, "TABLE wagon") == 7


def test_a_stale_pid_file_that_names_a_stranger_does_not_stop_a_start(tmp_path: Path) -> None:
    with start_postgres(tmp_path) as server:
        kill(server)
    pid_file = tmp_path / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with start_postgres(tmp_path) as server:
        assert server.exit_code() is None


def test_no_server_outlives_a_killed_owner(tmp_path: Path) -> None:
    with owner_of_both(tmp_path) as (owner, pids):
        owner.kill()
    wait_until(lambda: not any(is_running(pid) for pid in pids))
    with start_redis(tmp_path / "redis"), start_postgres(tmp_path / "postgres"):
        pass


def test_a_killed_owner_can_be_followed_at_once(tmp_path: Path) -> None:
    with owner_of_both(tmp_path) as (owner, _):
        owner.kill()
        owner.wait()
        with start_redis(tmp_path / "redis") as cache, start_postgres(tmp_path / "postgres") as database:
            assert cache.exit_code() is None
            assert database.exit_code() is None


def test_a_server_that_was_left_running_in_the_directory_is_stopped_first(tmp_path: Path) -> None:
    port = free_port()
    command = [str(find_redis().path), "--dir", str(tmp_path), "--port", str(port), "--bind", HOST]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as leftover:
        wait_until(lambda: (Path("/proc") / str(leftover.pid) / "cwd").readlink() == tmp_path)
        with start_redis(tmp_path):
            assert leftover.wait() == 0


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    refusal = pytest.raises(EmbeddedServiceError, match=f"in use by process {os.getpid()}.*another directory")
    with start_redis(tmp_path), refusal:
        start_redis(tmp_path)


def test_stopping_is_clean_and_may_be_repeated(tmp_path: Path) -> None:
    with start_redis(tmp_path / "redis") as cache, start_postgres(tmp_path / "postgres") as database:
        cache.stop()
        database.stop()
    assert (cache.exit_code(), database.exit_code()) == (0, 0)


def test_a_taken_port_is_refused_with_advice(tmp_path: Path) -> None:
    refusal = pytest.raises(EmbeddedServiceError, match=r"port \d+ is taken.*another port")
    with listening() as port, refusal:
        start_redis(tmp_path, port=port)


def test_a_wanted_port_is_used(tmp_path: Path) -> None:
    port = free_port()
    with start_redis(tmp_path, port=port) as server:
        assert server.url == f"redis://127.0.0.1:{port}/0"


def test_a_port_that_was_taken_in_between_is_given_up_for_another() -> None:
    tried: list[int] = []
    with socket.socket() as thief:

        def start(port: int) -> int:
            tried.append(port)
            if len(tried) == 1:
                thief.bind((HOST, port))
                thief.listen()
                raise EmbeddedServiceError("the port is taken")
            return port

        assert start_on_port(None, start) == tried[1] != tried[0]


def test_two_of_each_run_side_by_side(tmp_path: Path) -> None:
    with (
        start_redis(tmp_path / "a") as one,
        start_redis(tmp_path / "b") as two,
        start_postgres(tmp_path / "c") as three,
        start_postgres(tmp_path / "d") as four,
    ):
        put(one, "name", "one")
        assert get(two, "name") is None
        assert len({server.port for server in (one, two, three, four)}) == 4
        assert execute(three, "SELECT 1") == execute(four, "SELECT 1") == 1


@pytest.mark.parametrize("start", [start_redis, start_postgres])
def test_a_directory_that_cannot_be_made_is_refused_with_advice(tmp_path: Path, start: type) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(EmbeddedServiceError, match="choose a directory that you can write to"):
        start(tmp_path / "file" / "below")


def test_a_directory_that_is_not_a_cluster_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(EmbeddedServiceError, match="not a Postgres data directory: move it away"):
        start_postgres(tmp_path)


def test_data_of_a_version_that_is_not_installed_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedServiceError, match="made by Postgres 9, which is not installed"):
        start_postgres(tmp_path)


def test_a_failed_start_shows_the_servers_last_words(tmp_path: Path) -> None:
    with start_redis(tmp_path):
        pass
    manifest = next((tmp_path / "appendonlydir").glob("*.manifest"))
    manifest.write_text("this is no manifest\n")
    with pytest.raises(EmbeddedServiceError, match=r"(?s)ended with code 1 .*manifest.*the whole log is"):
        start_redis(tmp_path)


def test_a_start_outside_the_main_thread_is_refused(tmp_path: Path) -> None:
    refusals: list[EmbeddedServiceError] = []

    def start() -> None:
        try:
            start_redis(tmp_path)
        except EmbeddedServiceError as refusal:
            refusals.append(refusal)

    thread = Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(refusals[0])


@contextmanager
def owner_of_both(directory: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that runs a Redis and a Postgres, with their pids."""
    command = [sys.executable, "-c", OWNER, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        yield owner, [int(pid) for pid in owner.stdout.readline().split()]


@contextmanager
def listening() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        yield other.getsockname()[1]


def kill(server: EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def put(server: EmbeddedServer, key: str, value: str) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.set(key, value)


def get(server: EmbeddedServer, key: str) -> str | None:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        value: str | None = client.get(key)
        return value


def execute(server: EmbeddedServer, statement: str) -> object:
    with closing(psycopg2.connect(server.url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None
