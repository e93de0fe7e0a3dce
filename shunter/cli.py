"""The `shunter` command: its groups of commands, and how errors reach the terminal."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

import click

from shunter import __version__
from shunter.commands.authoring import new_model, publish_model
from shunter.commands.batches import batches
from shunter.commands.check_model import check_model_command
from shunter.commands.dead import dead
from shunter.commands.doctor import doctor
from shunter.commands.fleet import demo, env, up
from shunter.commands.jobs import cancel, results, status, submit
from shunter.commands.listings import models, workers
from shunter.commands.processes import api, flower, migrate, worker
from shunter.commands.quarantine import quarantine
from shunter.commands.report import profile_model, report
from shunter.commands.schedule import schedule
from shunter.commands.score import score, scorings
from shunter.commands.verify import verify
from shunter.storage.errors import ShunterError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def cli() -> None:
    """Batch inference over a durable queue.

    \b
    On one machine:      shunter up            (then, in another shell)
                         eval $(shunter env)
                         shunter submit MODEL --row '[1, 2]' --wait
    In a cluster:        set SHUNTER_DATABASE_URL, SHUNTER_REDIS_URL and SHUNTER_OBJECT_STORE, then run
                         shunter migrate, shunter api, and a shunter worker for each device
    """


for command in (
    up,
    env,
    demo,
    submit,
    status,
    results,
    cancel,
    score,
    scorings,
    schedule,
    report,
    workers,
    models,
    batches,
    dead,
    quarantine,
    verify,
    doctor,
    worker,
    api,
    flower,
    migrate,
):
    cli.add_command(command)

for author_command in (new_model, check_model_command, publish_model, profile_model):
    models.add_command(author_command)


def main() -> None:
    """The entry point of the installed command."""
    warnings.showwarning = _show_warning
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code, and never shows a traceback for an expected error."""
    try:
        result = cli.main(args=list(arguments), prog_name="shunter", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except ShunterError as error:
        click.echo(f"error: {error.code}: {error.message}", err=True)
        return EXIT_FAILED
    except BrokenPipeError:
        # Whoever read our output has gone, and Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return result if isinstance(result, int) else 0


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    click.echo(f"warning: {message}", err=True)
