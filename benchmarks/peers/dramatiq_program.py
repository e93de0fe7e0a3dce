"""Dramatiq: its own command serves this module; run as a program, it sends."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers.inference import infer, warm_up
from benchmarks.peers.sender import serve_sends

dramatiq.set_broker(RedisBroker(url=os.environ["SHUNTER_REDIS_URL"]))


@dramatiq.actor(queue_name="peer")
def one(row: Any) -> None:
    """One row."""
    infer(row)


if __name__ == "__main__":
    serve_sends(one.send)
else:
    warm_up()
