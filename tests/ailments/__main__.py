"""`python -m tests.ailments [NAME]`: make a fleet unwell in ten ways, and print what named the cause.

Needs root for one of them, which mounts a disk of 64 KiB. It exits with 1 if a cause was named nowhere.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.ailments.arena import arena, open_postgres
from tests.ailments.ways import WAYS, Told, Way, directory_of, inflict


def main(wanted: Sequence[str]) -> int:
    ways = [way for way in WAYS if not wanted or any(word in way.name for word in wanted)]
    unnamed = 0
    with tempfile.TemporaryDirectory(prefix="shunter-ailments-") as root:
        place = Path(root)
        place.chmod(0o755)
        with open_postgres(place / "postgres") as postgres:
            for number, way in enumerate(ways):
                with arena(directory_of(way, place), postgres, number) as made:
                    told = inflict(way, made)
                unnamed += not any(way.named_by(told).values())
                show(way, told)
    print(f"{len(ways) - unnamed} of {len(ways)} causes were named")
    return min(1, unnamed)


def show(way: Way, told: Told) -> None:
    named = way.named_by(told)
    print(f"== {way.name}: named by {', '.join(place for place, by in named.items() if by) or 'nobody'}")
    for place, text in (("doctor", told.doctor), ("status", told.status), ("job", told.job)):
        print(f"-- {place}:\n{text}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
