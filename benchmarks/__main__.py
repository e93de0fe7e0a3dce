"""Limits and peers, side by side in one run: `python -m benchmarks [SET…] [--quick] [--repeats N] [--list]`.

Each set starts its own services and stops them, prints Markdown tables, and leaves the raw numbers and a plot
in benchmarks/out/.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import replace

from benchmarks.contest import QUICK, Plan
from benchmarks.machine import machine, versions
from benchmarks.progress import Progress
from benchmarks.rig import say
from benchmarks.sets import SETS, measure_of


def main() -> None:
    """Run the sets that were asked for, one after the other."""
    asked = _arguments()
    if asked.list:
        print("\n".join(f"{name:10} {about}" for name, about in SETS.items()))
        return
    plan = QUICK if asked.quick else Plan()
    if asked.repeats:
        plan = replace(plan, repeats=asked.repeats)
    # A timeout ends us so; what we have started must be ended first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before it was done"))
    print(f"{machine()}\n{versions()}\n{plan}", flush=True)
    with Progress() as progress:
        for name in asked.sets or SETS:
            began = time.perf_counter()
            progress.begin(name)
            for report in measure_of(name)(plan, progress):
                report.publish()
            say(f"{name}: {time.perf_counter() - began:.0f} s")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"{', '.join(SETS)}; all if left out")
    parser.add_argument("--list", action="store_true", help="say what there is, and do nothing")
    parser.add_argument("--quick", action="store_true", help="short runs, few repetitions: under 10 minutes")
    parser.add_argument("--repeats", type=int, metavar="N", help="repetitions of each measurement")
    asked = parser.parse_args()
    unknown = [name for name in asked.sets if name not in SETS]
    if unknown:
        parser.error(f"there is no set {unknown[0]!r}: {', '.join(SETS)}")
    return asked


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; all services are stopped")
