"""Plants bugs in a copy of the code, one at a time, and shows that the campaign or the tests catch each.

python -m tests.faults.mutations
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "shunter-data", "build", "dist", "out")

CHAOS = ("-m", "tests.faults.chaos", "--seed", "5")
PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")

BRIEF = (*CHAOS, "--minutes", "0.1", "--only", "kill -9 engine", "--healed-within", "60")
HUB_KILLS = (*CHAOS, "--minutes", "0.4", "--only", "kill -9 hub", "--healed-within", "60")

CAUGHT_WITHIN_S = 400


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of the code: `old`, which stands there exactly once, becomes `new`."""

    path: str
    old: str
    new: str

    def apply(self, copy: Path) -> None:
        """Make the change."""
        file = copy / self.path
        text = file.read_text()
        if text.count(self.old) != 1:
            raise SystemExit(
                f"{self.path} holds {text.count(self.old)} times: {self.old!r}: mend the mutation"
            )
        file.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True, slots=True)
class Mutation:
    """A bug, and what must catch it."""

    name: str
    edits: Sequence[Edit]
    caught_by: Sequence[str]


MUTATIONS = (
    Mutation(
        "a settlement does not look at the epoch",
        [Edit("storage/hub_statements.py", " AND epoch = done.done_epoch", "")],
        (*PYTEST, "tests/integration/test_hub_statements.py"),
    ),
    Mutation(
        "the key of an output does not tell the epoch",
        [Edit("storage/results.py", "/{job_id}/{epoch}", "/{job_id}/0")],
        (*PYTEST, "tests/unit/test_results.py"),
    ),
    Mutation(
        "outputs are scattered off by one",
        [
            Edit(
                "workers/scatter.py",
                "return _off_device(column)",
                "return _off_device(column[1:] + column[:1])",
            )
        ],
        BRIEF,
    ),
    Mutation(
        "an exception is swallowed, and its row reported as a success",
        [
            Edit(
                "workers/finishing.py",
                "run.results[first : first + len(results)] = results",
                "run.results[first : first + len(results)] = "
                "[None if hasattr(result, 'code') else result for result in results]",
            )
        ],
        BRIEF,
    ),
    Mutation(
        "a bunch is acked before its claim is committed, and the relay repairs nothing",
        [
            Edit(
                "workers/hub.py",
                "        self._claimer.take(mail,",
                "        self._fetcher.ack(mail.bunch)\n"
                "        time.sleep(0.5)\n"
                "        self._claimer.take(mail,",
            ),
            Edit(
                "workers/relay.py",
                "            pushed += self._put_back(line, horizon)",
                "            continue",
            ),
        ],
        HUB_KILLS,
    ),
)

NONE = Mutation("none: the code as it is", [], HUB_KILLS)


def main() -> int:
    """Returns the exit code: 1 if a bug was not caught, or the code itself is."""
    parser = argparse.ArgumentParser(description=__doc__)
    every = (NONE, *MUTATIONS)
    parser.add_argument(
        "numbers", nargs="*", type=int, help=f"of 0 to {len(every) - 1}, 0 is none; default all"
    )
    numbers = parser.parse_args().numbers or range(len(every))
    if not set(numbers) <= set(range(len(every))):
        parser.error(f"there are only the numbers 0 to {len(every) - 1}")
    outcomes = [(every[number], *_try(every[number])) for number in numbers]
    print(f"\n{'planted':82}{'caught':>8}{'after s':>9}")
    for mutation, caught, took_s in outcomes:
        print(f"{mutation.name:82}{'yes' if caught else 'NO':>8}{took_s:9.0f}")
    return int(any(caught != bool(mutation.edits) for mutation, caught, _ in outcomes))


def _try(mutation: Mutation) -> tuple[bool, float]:
    """Whether the bug was caught, and after how many seconds."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="shunter-mutation-") as directory:
        copy = Path(directory) / "tree"
        shutil.copytree(ROOT, copy, symlinks=True, ignore=LEFT_OUT)
        for edit in mutation.edits:
            edit.apply(copy)
        done = subprocess.run(
            [sys.executable, *mutation.caught_by],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CAUGHT_WITHIN_S,
            check=False,
        )
    told = [line for line in done.stdout.splitlines() if line.startswith(("WRONG", "FAILED", "E  "))]
    print(
        "\n".join([f"{mutation.name}: {'caught' if done.returncode else 'not caught'}", *told[:3]]),
        flush=True,
    )
    return done.returncode != 0, time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
