"""Commands about messages that could not be understood: look at them, and put them back on their queues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from shunter.commands.output import as_json_option, print_json, print_table
from shunter.storage.errors import Conflict, NotFound
from shunter.storage.settings import Settings

if TYPE_CHECKING:
    from shunter.storage.quarantine import Quarantine, Quarantined
    from shunter.workers.lists import Lists

MAX_SHOWN_CHARS = 4000
MAX_REASON_CHARS = 100


@click.group()
def quarantine() -> None:
    """Messages that no worker could understand, kept with their bytes and the reason.

    \b
    shunter quarantine list
    """


@quarantine.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="So many at most.")
@as_json_option
def list_quarantined(*, limit: int, as_json: bool) -> None:
    """List what is in quarantine, the newest first.

    \b
    shunter quarantine list
    """
    with _opened() as kept:
        entries = kept.list(limit)
    if as_json:
        print_json([_document(entry) for entry in entries])
        return
    print_table(
        ["ID", "QUEUE", "AGE", "REASON"],
        [
            (entry.id, printable(entry.queue), _age(entry.age_s), printable(entry.reason, MAX_REASON_CHARS))
            for entry in entries
        ],
    )


@quarantine.command("show")
@click.argument("id", type=click.UUID)
@as_json_option
def show_quarantined(id: UUID, *, as_json: bool) -> None:
    """Show why the message ID was not understood, and its bytes.

    \b
    shunter quarantine show 3f0e6a52-5d0b-5c4e-9a51-0c3c0a3f6f6e
    """
    with _opened() as kept:
        entry = kept.get(id)
    if as_json:
        print_json({**_document(entry), "raw": entry.raw})
        return
    click.echo(f"id       {entry.id}")
    click.echo(f"queue    {printable(entry.queue)}")
    click.echo(f"since    {entry.created_at}")
    click.echo(f"size     {entry.size} bytes{'' if entry.whole else ', the rest was not kept'}")
    click.echo(f"reason   {printable(entry.reason)}")
    click.echo(f"\n{printable(entry.raw, MAX_SHOWN_CHARS)}")


@quarantine.command("retry")
@click.argument("ids", metavar="[ID]...", type=click.UUID, nargs=-1)
@click.option("--all", "all_", is_flag=True, help="Everything that is in quarantine now.")
@as_json_option
def retry_quarantined(ids: tuple[UUID, ...], *, all_: bool, as_json: bool) -> None:
    """Put messages back on their queues, unchanged; what is still wrong comes back into quarantine.

    \b
    shunter quarantine retry 3f0e6a52-5d0b-5c4e-9a51-0c3c0a3f6f6e
    shunter quarantine retry --all
    """
    if bool(ids) == all_:
        raise click.UsageError("name the messages to put back, or give --all, and not both")
    from shunter.workers.lists import Lists

    settings = Settings.from_environment().require("database_url", "redis_url")
    with _opened() as kept:
        done, skipped = _put_back(kept, Lists(settings.redis_url), kept.ids() if all_ else ids, skip=all_)
    if as_json:
        print_json({"retried": done, "skipped": skipped})
        return
    click.echo("1 message is back on its queue" if len(done) == 1 else f"{len(done)} messages are back")
    for reason in skipped:
        click.echo(f"not put back: {reason}", err=True)


def _put_back(
    kept: Quarantine, lists: Lists, ids: Sequence[UUID], *, skip: bool
) -> tuple[list[UUID], list[str]]:
    """Those that went back, and why others did not; without `skip`, the first of these ends it."""
    done: list[UUID] = []
    skipped: list[str] = []
    for id in ids:
        try:
            put_back(kept, lists, id)
        except (Conflict, NotFound) as error:
            if not skip:
                raise
            skipped.append(error.message)
        else:
            done.append(id)
    return done, skipped


def put_back(kept: Quarantine, lists: Lists, id: UUID) -> None:
    """Push one message and then forget it: a kill in between leaves it twice, never not at all.

    Raises NotFound, QueueUnavailable, DatabaseUnavailable, or Conflict for one that was not kept whole.
    """
    with kept.take(id) as entry:
        if not entry.whole:
            raise Conflict(f"{id} was too large to be kept whole: send it anew from where it came")
        lists.push_raw(entry.list_key, entry.raw)


def printable(text: str | bytes, limit: int | None = None) -> str:
    """Text that no terminal takes for a command, cut to `limit` characters."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    cut = text if limit is None or len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


@contextmanager
def _opened() -> Iterator[Quarantine]:
    from shunter.storage.database import Database
    from shunter.storage.quarantine import Quarantine

    settings = Settings.from_environment().require("database_url")
    with closing(Database(settings.database_url, pool_size=1)) as database:
        yield Quarantine(database)


def _document(entry: Quarantined) -> dict[str, Any]:
    fields = {name: value for name, value in asdict(entry).items() if name != "raw"}
    return {"queue": entry.queue, **fields}


def _age(seconds: float) -> str:
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
