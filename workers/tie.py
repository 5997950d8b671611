"""Ties the processes of one command to its main process."""

from __future__ import annotations

from multiprocessing import parent_process

from workers.child import die_with_parent


def tie_to_main() -> None:
    """A killed main takes this process along; Sanic's would live on and hold the port."""
    if (main := parent_process()) and main.pid:
        die_with_parent(main.pid)
