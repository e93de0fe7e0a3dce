"""The command that says whether a fleet is well, and what to do if it is not."""

from __future__ import annotations

import click

from shunter.commands.output import as_json_option, print_json
from shunter.storage.settings import Settings

EXIT_UNWELL = 1

COLOURS = {"ok": "green", "warn": "yellow", "FAIL": "red"}


@click.command()
@as_json_option
def doctor(*, as_json: bool) -> None:
    """Check services, clocks, workers, models and queued jobs; the exit code is 1 if something fails.

    Each line says ok, warn or FAIL, what was found, and what to do about it.

    \b
    shunter doctor
    """
    from shunter.doctor.collection import collect
    from shunter.doctor.examination import examine, healthy

    settings = Settings.from_environment()
    if not (settings.database_url or settings.redis_url or settings.object_store):
        # One line instead of one for each of them.
        settings.require("database_url", "redis_url", "object_store")
    findings = examine(collect(settings))
    if as_json:
        print_json({"healthy": healthy(findings), "findings": findings})
    else:
        for finding in findings:
            level, rest = finding.line()[:4], finding.line()[4:]
            click.echo(click.style(level, fg=COLOURS[finding.level]) + rest)
    raise click.exceptions.Exit(0 if healthy(findings) else EXIT_UNWELL)
