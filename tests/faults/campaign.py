"""`make chaos`: kill at every failpoint, many times, count what was lost, and tell when it ran again."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.arena import arena, chosen
from tests.faults.strikes import EVERYWHERE, Line, report, spread, strike
from tests.faults.strikes_elsewhere import SOURCE


def main() -> int:
    """Returns the exit code: 1 if anything was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="0 takes any, and prints it")
    parser.add_argument("--tries", type=int, default=220)
    arguments = parser.parse_args()
    rng, began = chosen(arguments.seed), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="shunter-chaos-") as directory,
        arena(Path(directory), source=SOURCE) as place,
    ):
        place.start_hub()
        # Its engine is there before any is armed.
        place.wait(place.submit(1))
        strikes = [strike(place, boundary, rng) for boundary in spread(arguments.tries, rng, EVERYWHERE)]
        place.wait()
        lines = report(place, strikes)
    _show(lines)
    print(f"{arguments.tries} kills in {time.monotonic() - began:.0f} s")
    return 0 if all(line.tally.sound for line in lines) else 1


def _show(lines: list[Line]) -> None:
    names = ("tries", "jobs", "lost", "wrong", "doubled", "to rerun", "median s", "worst s")
    print(f"{'killed at':28}" + "".join(f"{name:>9}" for name in names))
    for line in lines:
        tally = line.tally
        counts = (line.tries, tally.jobs, tally.unfinished, tally.wrong, tally.doubled, line.affected)
        print(
            f"{line.boundary:28}"
            + "".join(f"{count:9}" for count in counts)
            + f"{line.median_s:9.1f}{line.worst_s:9.1f}"
        )


if __name__ == "__main__":
    sys.exit(main())
