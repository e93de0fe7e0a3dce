"""The transport and its peers, side by side: `python -m benchmarks.transport MEASUREMENT...`.

Each measurement starts its own Redis, Postgres and workers, prints a Markdown table, and leaves the raw
numbers in benchmarks/out/.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Mapping

MEASUREMENTS: Mapping[str, str] = {
    "round-trips": "transport_queue:round_trips",
    "publish": "transport_queue:publish",
    "idle": "transport_queue:idle",
    "wake-up": "transport_latency:wake_up",
    "interactive": "transport_latency:interactive",
    "celery-producer": "transport_drain:celery_producer",
    "million": "transport_drain:million",
    "balance": "transport_balance:balance",
}


def main() -> None:
    """Run the measurements that were asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transport", description=__doc__)
    parser.add_argument(
        "measurements",
        nargs="+",
        choices=[*MEASUREMENTS, "all"],
        metavar="MEASUREMENT",
        help=f"{', '.join(MEASUREMENTS)}, or all",
    )
    # A timeout ends us so; what we have started must be ended first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before it was done"))
    wanted = parser.parse_args().measurements
    for name in MEASUREMENTS if "all" in wanted else wanted:
        print(f"{name} ...", file=sys.stderr, flush=True)
        module, _, function = MEASUREMENTS[name].partition(":")
        getattr(importlib.import_module(f"benchmarks.{module}"), function)().publish()


if __name__ == "__main__":
    main()
