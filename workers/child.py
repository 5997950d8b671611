"""
A child process that ends with its parent, whatever ends the parent.

As a script, `python child.py PARENT_PID PROGRAM ARGUMENT...`, it becomes a program that does so: code between
fork and exec would not be safe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(parent_pid: int) -> None:
    """The kernel kills this process when the thread that started it ends; a parent that is gone already ends it now."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the parent chose the program
