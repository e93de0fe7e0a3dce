"""A Ray of one's own on this machine, for a program that is ended by a signal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

CPUS = 2


@contextmanager
def ray_session() -> Iterator[None]:
    """Ray on loopback, without its dashboard; stopped with all its processes when told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Its workers look for our modules and for where results go; they do not start in our directory.
    environment = {name: os.environ[name] for name in ("PYTHONPATH", "SHUNTER_DATABASE_URL")}
    ray.init(
        num_cpus=CPUS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
        _temp_dir=str(Path.cwd() / "ray"),
        runtime_env={"env_vars": {**environment, "OMP_NUM_THREADS": "1"}},
    )
    try:
        yield
    finally:
        ray.shutdown()
