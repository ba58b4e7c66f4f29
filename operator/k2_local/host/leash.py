"""Run a command that must not outlive its parent: `python -IS leash.py PARENT-PID COMMAND…`.

Executed as a file by `processes.py`, in the new process, just before the command takes its place (same PID). Linux sends
SIGTERM when the parent dies; elsewhere nothing does, and `k2 down` ends what was left. It is a program of its own because
Python code between fork and exec is not safe in a process with threads. Only the standard library, so that it starts fast.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            sys.exit("the parent is gone")
    try:
        os.execvp(command[0], command)  # noqa: S606 - there is no shell here on purpose
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
