"""As whom a server runs: Postgres refuses to run as root."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from shunter.embedded.errors import EmbeddedServiceError

# Root outside, an ordinary user inside: the files stay root's, so any directory and installation will do.
NAMESPACE = ("--user", "--map-user=1000", "--map-group=1000")
UNPRIVILEGED_USER = "nobody"
PROBE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Identity:
    """The user of a server process, or a wrapper that gives it one; by default it runs as we do."""

    wrapper: tuple[str, ...] = ()
    user: tuple[int, int] | None = None  # its number and its group's


OURSELVES = Identity()


def identity_for(data: Path) -> Identity:
    """The owner of existing data decides, so that one directory is never used in two ways."""
    if os.geteuid() != 0:
        return OURSELVES
    if data.exists() and data.stat().st_uid != 0:
        return Identity(user=(data.stat().st_uid, data.stat().st_gid))
    if unshare := _working_unshare():
        return Identity(wrapper=(unshare, *NAMESPACE))
    if not data.exists():
        nobody = pwd.getpwnam(UNPRIVILEGED_USER)
        return Identity(user=(nobody.pw_uid, nobody.pw_gid))
    raise EmbeddedServiceError(
        f"{data} is root's, Postgres refuses to run as root, and this machine has no user namespaces: "
        f"chown -R {UNPRIVILEGED_USER} {data}, or start as an ordinary user with another directory"
    )


def _working_unshare() -> str | None:
    """The path of `unshare`, if this machine lets it make a user namespace."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    probe = subprocess.run(
        [unshare, *NAMESPACE, "true"], capture_output=True, timeout=PROBE_TIMEOUT_S, check=False
    )
    return unshare if probe.returncode == 0 else None
