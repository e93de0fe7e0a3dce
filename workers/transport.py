"""The fleet's transport: kombu's Redis transport, but envelopes are popped in bunches that no death loses.

Stock kombu pops one message, and records it in a second round trip: whoever dies in between has lost it.
Here one script pops many raw messages and keeps them in a bunch, in one step; an ack deletes the bunch once
its rows are claimed; a bunch that is not acked within STALE_S goes back, whoever held it. Celery's own
consumer goes on serving every other queue, remote control and events.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import kombu
import kombu.transport
from kombu.exceptions import OperationalError
from kombu.transport import redis
from redis.exceptions import RedisError

from shunter.storage.envelope import QUEUE_PREFIX

OUTAGES = (RedisError, OperationalError, OSError)
"""What says that Redis does not answer."""

SOCKET_TIMEOUT_S = 5.0

STALE_S = 10.0
INDEX_KEY = "shunter.bunches"
BUNCH_PREFIX = "shunter.bunch."


def script(name: str) -> str:
    """The text of a script of ours."""
    return files("shunter.workers").joinpath("scripts", f"{name}.lua").read_text()


def connect(url: str) -> Any:
    """A redis-py client for a URL that Celery takes, Sentinel's included; raises one of OUTAGES."""
    options = {"socket_connect_timeout": SOCKET_TIMEOUT_S, "socket_timeout": SOCKET_TIMEOUT_S}
    return kombu.Connection(url, transport_options=options).channel().client


class _Bunched:
    """Leaves the inference queues to the fetcher; everything else is as kombu does it."""

    _active_queues: list[str]

    @property
    def active_queues(self) -> list[str]:
        """What kombu itself pops from."""
        queues: list[str] = super().active_queues  # type: ignore[misc]
        return [queue for queue in queues if not queue.startswith(QUEUE_PREFIX)]

    @property
    def inference_queues(self) -> frozenset[str]:
        """What the fetcher pops from: `celery control add_consumer` and `cancel_consumer` change it."""
        return frozenset(queue for queue in self._active_queues if queue.startswith(QUEUE_PREFIX))


class Channel(_Bunched, redis.Channel):
    """A channel to one Redis."""


class SentinelChannel(_Bunched, redis.SentinelChannel):
    """A channel to the master that Sentinel names."""


class Transport(redis.Transport):
    """`redis://`"""

    Channel = Channel


class SentinelTransport(redis.SentinelTransport):
    """`sentinel://`"""

    Channel = SentinelChannel


def install() -> None:
    """Make this process' kombu use it; URLs keep their scheme, so that Flower and logs show them as ever."""
    ours = {"redis": "Transport", "rediss": "Transport", "sentinel": "SentinelTransport"}
    kombu.transport.TRANSPORT_ALIASES.update({scheme: f"{__name__}:{name}" for scheme, name in ours.items()})
    kombu.transport._transport_cache.clear()


def inference_queues(consumer: Any) -> frozenset[str]:
    """The inference queues that a Celery consumer serves now."""
    queues: frozenset[str] = consumer.task_consumer.channel.inference_queues
    return queues
