"""A campaign: strikes at random under load, for as long as asked, and then every promise is checked.

python -m tests.faults.chaos --seed 1 --minutes 5
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import redis

from shunter import Client
from shunter.commands.verify import examine
from shunter.storage.errors import Unavailable
from shunter.storage.job_facts import JobFactsReader
from shunter.storage.object_store import open_object_store
from shunter.storage.object_sweep import ObjectSweep
from tests.faults.arena import Arena, arena, chosen, pass_time
from tests.faults.ledger import MODEL_SOURCE, SECRET, Ledger, violations
from tests.faults.load import Producer
from tests.faults.nemesis import STRIKES, Nemesis, Struck
from tests.faults.pgbouncer import pgbouncer
from tests.waiting import wait_until

PACES_S = (0.01, 0.02, 0.03, 0.03)
"""Seconds between the submissions of each producer; the last half go over HTTP."""

PAGE, PAGE_PACE_S = 300, 0.3
"""Jobs that a producer of pages submits at once, and seconds between two pages; it goes directly."""

PAUSES_S = (1.0, 4.0)
"""Between two strikes."""

ROW_S = 0.0005
HEALED_WITHIN_S = 180.0

RAN_AGAIN = """
SELECT extract(epoch FROM max(at))::float8 FROM moves
WHERE id = ANY(%s::uuid[]) AND target NOT IN ('queued', 'running')
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a campaign ended."""

    ledger: Ledger
    wrong: Sequence[str]
    struck: Sequence[Struck]
    lines: Sequence[str]
    """The table of recoveries."""


def campaign(
    directory: Path,
    rng: random.Random,
    *,
    seconds: float,
    only: Sequence[str] = (),
    in_pages: bool = False,
    through_pgbouncer: bool = False,
    healed_within_s: float = HEALED_WITHIN_S,
) -> Verdict:
    """Strike for so many seconds under load, much of it `in_pages` if wanted, heal, and check."""
    with ExitStack() as stack:
        through = pgbouncer if through_pgbouncer else None
        place = stack.enter_context(
            arena(directory, row_s=ROW_S, max_rows=64, source=MODEL_SOURCE, through=through)
        )
        nemesis, ledger = Nemesis(place, rng, only), Ledger()
        stack.callback(nemesis.stop_api)
        baseline = _redis_keys(place)
        with _producers(place, nemesis.url, ledger, rng, in_pages):
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                pass_time(rng.uniform(*PAUSES_S))
                nemesis.strike()
                print(f"strike {len(nemesis.struck)}: {nemesis.struck[-1].what}", flush=True)
            # While the fleet is at work, and mends what was just struck.
            told = [f"verify, under load: {finding}" for finding in examine(place.settings)[1]]
        # Whoever has not ended by then is told below.
        with suppress(AssertionError):
            wait_until(lambda: _settled(place), healed_within_s)
        wrong = [*told, *violations(place, ledger), *_fleet_violations(place, baseline)]
        return Verdict(ledger, wrong, nemesis.struck, list(_table(place, nemesis.struck)))


@contextmanager
def _producers(  # noqa: PLR0917 - what a campaign is made of
    place: Arena, url: str, ledger: Ledger, rng: random.Random, in_pages: bool
) -> Iterator[None]:
    def direct() -> Client:
        return Client(settings=place.settings)

    def over_http() -> Client:
        return Client(url)

    ways = [direct] * (len(PACES_S) // 2) + [over_http] * (len(PACES_S) // 2)
    producers = [
        Producer(way, ledger, seed=rng.randrange(10**9), pace_s=pace_s)
        for way, pace_s in zip(ways, PACES_S, strict=True)
    ]
    if in_pages:
        producers.append(Producer(direct, ledger, seed=rng.randrange(10**9), pace_s=PAGE_PACE_S, page=PAGE))
    try:
        yield
    finally:
        for producer in producers:
            producer.stop()
    for producer in producers:
        producer.join()


def _settled(place: Arena) -> bool:
    """Whether everything there is has ended, whoever was told of it."""
    with suppress(Unavailable):
        (open_,) = place.ask("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')")[0]
        return int(open_) == 0
    return False


def _fleet_violations(place: Arena, baseline: int) -> Iterator[str]:
    """I5, I8, I9: what is left over once everything has ended."""
    # Runs that were killed after they had stored their outputs have left objects.
    ObjectSweep(
        JobFactsReader(place.database), open_object_store(place.settings.object_store), older_than_s=0.0
    ).run()
    for finding in examine(place.settings, unnamed_after_s=0.0)[1]:
        yield f"verify: {finding.check}: {finding.subject} {finding.message}"
    try:
        wait_until(lambda: _redis_keys(place) <= baseline, 30)
    except AssertionError:
        yield f"I5, I8: {_redis_keys(place)} keys are left in Redis, and {baseline} there were"
    if SECRET in (place.directory / "processes.log").read_text(errors="replace"):
        yield "I9: a log holds what was sent with a job"


def _redis_keys(place: Arena) -> int:
    """Lists and bunches of envelopes that are not empty."""
    with redis.Redis.from_url(place.redis.url) as client:
        return sum(1 for _ in client.scan_iter(match="infer.*")) + sum(
            1 for _ in client.scan_iter(match="shunter.bunch*")
        )


def _table(place: Arena, struck: Sequence[Struck]) -> Iterator[str]:
    """Until the jobs that were running where it struck had ended, by what it was."""
    took: dict[str, list[float]] = defaultdict(list)
    for each in struck:
        took[each.what]
        last = place.ask(RAN_AGAIN, (list(each.jobs),))[0][0] if each.jobs else None
        if last is not None:
            took[each.what].append(max(0.0, last - each.at))
    counts = {what: sum(1 for each in struck if each.what == what) for what in took}
    yield f"{'strike':20}{'times':>7}{'median s':>10}{'worst s':>9}"
    for what, seconds in sorted(took.items()):
        middle = sorted(seconds)[len(seconds) // 2] if seconds else 0.0
        yield f"{what:20}{counts[what]:7}{middle:10.1f}{max(seconds, default=0.0):9.1f}"


def report(verdict: Verdict) -> None:
    """Print what happened."""
    print("\n".join(verdict.lines))
    cancelled = sum(entry.cancelled for entry in verdict.ledger.accepted)
    rows = sum(len(entry.numbers) for entry in verdict.ledger.accepted)
    print(f"{len(verdict.ledger.accepted)} jobs of {rows} rows were accepted, {cancelled} of them cancelled")
    print(f"refused for the moment: {dict(verdict.ledger.refusals) or 'never'}")
    for wrong in verdict.wrong[:50]:
        print(f"WRONG {wrong}")
    print(f"{len(verdict.wrong)} violations of I1-I9")


def main() -> int:
    """Returns the exit code: 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="0 takes any, and prints it")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--only", action="append", default=[], choices=sorted(STRIKES))
    parser.add_argument("--pages", action="store_true", help="submit most jobs in pages: several hundred/s")
    parser.add_argument("--pgbouncer", action="store_true", help="put everybody behind PgBouncer")
    parser.add_argument("--healed-within", type=float, default=HEALED_WITHIN_S, metavar="SECONDS")
    arguments = parser.parse_args()
    rng = chosen(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="shunter-nemesis-") as directory:
        verdict = campaign(
            Path(directory),
            rng,
            seconds=60 * arguments.minutes,
            only=arguments.only,
            in_pages=arguments.pages,
            through_pgbouncer=arguments.pgbouncer,
            healed_within_s=arguments.healed_within,
        )
    report(verdict)
    return int(bool(verdict.wrong))


if __name__ == "__main__":
    sys.exit(main())
