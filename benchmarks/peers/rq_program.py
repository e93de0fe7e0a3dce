"""RQ: `python -m benchmarks.peers.rq_program worker` serves, `… send` sends."""

from __future__ import annotations

import os
import sys

import rq
from redis import Redis

from benchmarks.peers.inference import infer, warm_up
from benchmarks.peers.sender import serve_sends

connection = Redis.from_url(os.environ["SHUNTER_REDIS_URL"])
queue = rq.Queue("peer", connection=connection)


def main() -> None:
    """Serve or send."""
    if sys.argv[1] == "worker":
        warm_up()
        rq.SimpleWorker([queue], connection=connection).work(logging_level="WARNING")
    else:
        serve_sends(lambda row: queue.enqueue(infer, row, result_ttl=0))


if __name__ == "__main__":
    main()
