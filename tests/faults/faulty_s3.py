"""A proxy before an S3 server that answers wrongly on demand."""

from __future__ import annotations

import base64
import hashlib
import http.client
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

HOST = "127.0.0.1"
FAULTS = ("error", "slow", "cut", "damaged")
"""503 SlowDown, a trickle, an end in the middle of the answer, and a wrong byte in the body either way."""

SLOW_CHUNK, SLOW_S = 65_536, 0.2
SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please slow down.</Message></Error>"
BAD_DIGEST = (
    b"<?xml version='1.0'?><Error><Code>BadDigest</Code><Message>Not what you sent.</Message></Error>"
)
HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server", "content-length"}


class FaultyS3:
    """Passes requests on; those whose method and path match meet the fault of the hour; use it as `with`."""

    def __init__(self, endpoint_url: str) -> None:
        self.target = urlsplit(endpoint_url).netloc
        self.fault = ""
        self.where: frozenset[tuple[str, str]] = frozenset()
        """(method, a part of the path) of what is struck."""
        self.struck: Counter[str] = Counter()
        """How many requests met each fault."""
        self._server = ThreadingHTTPServer((HOST, 0), lambda *args: _Handler(self, *args))
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def strike(self, fault: str, *where: tuple[str, str]) -> None:
        """From now on these requests meet this fault."""
        self.fault, self.where = fault, frozenset(where)

    def heal(self) -> None:
        """From now on all is as it should be."""
        self.fault = ""

    def fault_of(self, method: str, path: str) -> str:
        """What this request meets; nothing, if empty."""
        if not any(method == wanted and part in path for wanted, part in self.where):
            return ""
        self.struck[self.fault] += bool(self.fault)
        return self.fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, proxy: FaultyS3, *args: object) -> None:
        self._proxy = proxy
        super().__init__(*args)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def _pass_on(self) -> None:
        body = self._read_body()
        fault = self._proxy.fault_of(self.command, self.path)
        if fault == "error":
            self._answer(503, {}, SLOW_DOWN)
            return
        sent = _damaged(body) if fault == "damaged" else body
        if not _as_told(sent, self.headers.get("Content-MD5")):
            # As S3 does it; moto does not look.
            self._answer(400, {}, BAD_DIGEST)
            return
        status, headers, answer = self._ask(sent)
        if fault == "damaged" and self.command == "GET":
            answer = _damaged(answer)
        self._answer(status, headers, answer, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

    def _read_body(self) -> bytes:
        if "100-continue" in self.headers.get("Expect", ""):
            self.send_response_only(100)
            self.end_headers()
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self._proxy.target, timeout=30)
        try:
            asked = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body, asked)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, fault: str = "") -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        length = headers.get("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        if fault == "cut":
            body = body[: len(body) // 2]
            self.close_connection = True
            if not body:
                # Nothing to cut in the middle of: the answer ends before its headers do.
                return
        self.end_headers()
        if self.command == "HEAD":
            return
        for start in range(0, len(body), SLOW_CHUNK):
            time.sleep(SLOW_S if fault == "slow" else 0.0)
            self.wfile.write(body[start : start + SLOW_CHUNK])


def _as_told(body: bytes, digest: str | None) -> bool:
    return digest is None or base64.b64decode(digest) == hashlib.md5(body, usedforsecurity=False).digest()


def _damaged(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body
