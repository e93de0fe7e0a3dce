"""Taskiq on a Redis stream: its own command serves this module; run as a program, it sends."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from taskiq_redis import RedisStreamBroker

from benchmarks.peers.inference import infer, warm_up
from benchmarks.peers.sender import serve_sends

broker = RedisStreamBroker(os.environ["SHUNTER_REDIS_URL"])


@broker.task(task_name="one")
async def one(row: Any) -> None:
    """One row."""
    infer(row)


def main() -> None:
    """Send."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(broker.startup())
    serve_sends(lambda row: loop.run_until_complete(one.kiq(row)))


if __name__ == "__main__":
    main()
else:
    warm_up()
