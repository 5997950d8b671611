"""Ties the processes of one command to its main process: when that is killed, the kernel ends all of them."""

from __future__ import annotations

import os
from multiprocessing import parent_process

from workers.child import die_with_parent

_fork_server = os.getpid()  # who loads this first; all others are its copies


def tie_fork_server() -> None:
    """Ends the fork server with main; else it would live for as long as any of its copies does."""
    die_with_parent(os.getppid())


def tie_to_main() -> None:
    """Ends a copy with the fork server, and so with main. Sanic's workers would live on and hold the port."""
    die_with_parent(_fork_server)
    main = parent_process()
    if main is None or not main.is_alive():  # it was killed before the fork server was tied to it
        os._exit(1)
