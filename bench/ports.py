"""Ports for servers of tests and benchmarks that must know theirs before they start, or keep it over a restart."""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress
from itertools import cycle

SHARES = 8  # test processes side by side that never deal out the same port
# Below what the kernel deals out by itself (32,768 and up), and none on which the gateway allows no node.
FIRST, LAST = 20_000, 25_999
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # noqa: TID251 - no setting of ours
_own = range(FIRST + _worker % SHARES, LAST + 1, SHARES)
_turns = cycle(random.sample(_own, len(_own)))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on; it comes again only when all others have had their turn."""
    for port in _turns:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("a cycle has no end")
