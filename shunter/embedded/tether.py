"""Becomes a program that is signalled when its owner dies: SIGNAL OWNER_PID USER GROUP PROGRAM ARGUMENT..."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
KEEP = "-"


def main() -> None:
    death_signal, owner_pid, user, group, *command = sys.argv[1:]
    # Changed here and not by the parent: the new user need not be able to reach this Python. And changed
    # first: a change of user forgets the death signal.
    if user != KEEP:
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    # The owner may have died before the kernel was told to watch it.
    if os.getppid() != int(owner_pid):
        sys.exit("the owner is gone")
    # Python ignores SIGPIPE, and what is ignored stays so in the program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
