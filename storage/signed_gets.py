"""Whole objects from S3 by requests that botocore signs and sends, without what its client does besides.

For a small object the client computes three times as long as the signature, the request and the answer take:
it resolves the endpoint, and parses every header, for each object anew.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.httpsession import URLLib3Session
    from mypy_boto3_s3 import S3Client

UNQUOTED = "/~"
"""What botocore leaves as it is in a key, besides letters, digits and `-._`."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How a bucket's objects are asked for; `root` is the URL before their keys."""

    root: str
    region: str
    service: str
    connections: URLLib3Session


class SignedGets:
    """Asks for objects of one bucket the way its client did when it last got one; from any thread.

    Where that is (style, region, redirects) and over which connections (proxies, certificates, timeouts)
    remains the client's to find out, and so does what an answer other than the object means.
    """

    def __init__(self, session: Session, client: S3Client) -> None:
        self._session = session
        self._way: _Way | None = None
        client.meta.events.register("needs-retry.s3.GetObject", self._learn)

    def get(self, key: str, admit: Callable[[int], object]) -> bytes | None:
        """A whole object, None if the client must be asked; `admit` is told its size first, and may raise."""
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - loaded with boto3

        way = self._way
        if way is None or not key:
            return None
        try:
            return self._get(way, key, admit)
        except BotoCoreError:
            return None

    def _get(self, way: _Way, key: str, admit: Callable[[int], object]) -> bytes | None:
        from botocore.auth import S3SigV4Auth  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.response import StreamingBody  # noqa: PLC0415

        credentials = self._session.get_credentials()
        if credentials is None:
            return None
        request = AWSRequest("GET", f"{way.root}/{quote(key, safe=UNQUOTED)}", stream_output=True)
        S3SigV4Auth(credentials.get_frozen_credentials(), way.service, way.region).add_auth(request)
        answer = way.connections.send(request.prepare())
        # A connection whose answer was read to its end is in the pool again by then, and stays there.
        with closing(answer.raw):
            told = answer.headers.get("Content-Length", "")
            if answer.status_code != 200 or not told.isdecimal():
                return None
            size = int(told)
            admit(size)
            data = StreamingBody(answer.raw, size).read(size)
        return data if len(data) == size else None

    def _learn(self, *, request_dict: dict[str, Any], endpoint: Any, response: Any = None, **_: Any) -> None:
        """Called by the client after each attempt to get an object."""
        context = request_dict["context"]
        signing = context.get("signing", {})
        end = f"/{quote(context.get('input_params', {}).get('Key', ''), safe=UNQUOTED)}"
        url: str = request_dict["url"]
        # Directory buckets, access points over many regions and the public sign otherwise, or not at all.
        plain = context.get("auth_type") == "v4" and {"region", "signing_name"} <= signing.keys()
        if response and response[0].status_code == 200 and plain and url.endswith(end):
            root = url.removesuffix(end)
            self._way = _Way(root, signing["region"], signing["signing_name"], endpoint.http_session)
