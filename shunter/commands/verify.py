"""The command that asks whether everything that is stored agrees with itself."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from shunter.commands.output import as_json_option, print_json, print_table
from shunter.storage.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shunter.storage.verification import Finding

EXIT_FINDINGS = 1


@click.command()
@click.option(
    "--read-objects",
    is_flag=True,
    help="Read the inputs and outputs in the object store whole: finds damaged ones.",
)
@as_json_option
def verify(*, read_objects: bool, as_json: bool) -> None:
    """Compare jobs, objects and queues; the exit code is 1 if something is wrong.

    It only reads, and may run beside a working fleet: what is under way is looked at twice.

    \b
    shunter verify
    shunter verify --read-objects
    """
    looked_at, findings = examine(Settings.from_environment(), reads_objects=read_objects)
    if as_json:
        print_json({"looked_at": looked_at, "findings": findings})
    else:
        _print(looked_at, findings)
    raise click.exceptions.Exit(EXIT_FINDINGS if findings else 0)


def examine(
    settings: Settings, *, unnamed_after_s: float | None = None, reads_objects: bool = False
) -> tuple[dict[str, int], Sequence[Finding]]:
    """How many jobs, objects and envelopes were looked at, and what is wrong; SettingsError, Unavailable."""
    from shunter.storage.database import Database
    from shunter.storage.job_facts import JobFactsReader
    from shunter.storage.job_repair import JobRepair
    from shunter.storage.object_store import open_object_store
    from shunter.storage.verification import UNNAMED_AFTER_S, Verification
    from shunter.workers.queue_verification import QueueVerification

    settings.require("database_url", "redis_url", "object_store")
    with closing(Database(settings.database_url, pool_size=1)) as database:
        reader = JobFactsReader(database)
        stored = Verification(
            reader,
            open_object_store(settings.object_store),
            unnamed_after_s=UNNAMED_AFTER_S if unnamed_after_s is None else unnamed_after_s,
            reads_objects=reads_objects,
        )
        queued = QueueVerification(settings.redis_url, JobRepair(database), reader)
        findings = [*stored.run(), *queued.run()]
    return {"jobs": stored.jobs, "objects": stored.objects, "envelopes": queued.envelopes}, findings


def _print(looked_at: dict[str, int], findings: Sequence[Finding]) -> None:
    from shunter.commands.quarantine import printable

    if findings:
        print_table(
            ["CHECK", "WHAT", "WHY"],
            [(f.check, printable(f.subject), printable(f.message)) for f in findings],
        )
    seen = ", ".join(f"{count} {what}" for what, count in looked_at.items())
    click.echo(f"{len(findings)} findings in {seen}", err=True)
