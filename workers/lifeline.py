"""What ties a child process to its parent: it ends with it, and leaves a terminal's signals to it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import NoReturn

EXIT_ORPHANED = 4

_PR_SET_PDEATHSIG = 1


def bind_to_parent() -> None:
    """End with the parent, and only with it: a terminal's Ctrl-C is for the hub, which then says Stop."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not SIG_IGN, which the model's own child processes would inherit.
        signal.signal(number, lambda *_: None)


def leave(code: int) -> NoReturn:
    """End the process at once: what a model's own threads or exit handlers do must not keep it alive."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
