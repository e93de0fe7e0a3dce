"""Every test of this folder in a process of its own, some at once: most of their time is waiting.

python -m tests.faults [--at-once N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.arena import size

PYTEST = (sys.executable, "-m", "pytest", "-q", "--no-header")


def main() -> int:
    """Returns the exit code: 1 if any test failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-once", type=int, default=4)
    at_once: int = parser.parse_args().at_once
    listing = _pytest(["--collect-only", *_chosen(), str(Path(__file__).parent)])
    tests = [line for line in listing.stdout.splitlines() if "::" in line]
    if listing.returncode or not tests:
        print(listing.stdout)
        return 1
    with ThreadPoolExecutor(at_once) as pool:
        return int(any(list(pool.map(_run, tests))))


def _chosen() -> tuple[str, ...]:
    """A test that would be passed over is not worth a process."""
    return () if size(0, 1) else ("-m", "not full")


def _run(test: str) -> int:
    began = time.monotonic()
    done = _pytest(["-rP", test])
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    told = [line for line in lines if done.returncode or line.startswith(("seed ", "measured: "))]
    print("\n".join([f"{time.monotonic() - began:5.1f} s  {test}", *told]), flush=True)
    return done.returncode


def _pytest(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTEST, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
