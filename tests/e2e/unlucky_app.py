"""The gateway whose fork server dies while it is asked for a fourth process: the successor of one that was killed."""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from multiprocessing import forkserver

import app as gateway
from tests.e2e.streaming_app import create_app

asked = count(1)
connect = forkserver.connect_to_new_process


def unlucky(fds: list[int]) -> tuple[int, int]:
    if next(asked) != 4:
        return connect(fds)
    pid: int = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGSTOP)  # so that it surely has not answered yet
    ends = connect(fds)
    os.kill(pid, signal.SIGKILL)
    return ends


if __name__ == "__main__":
    forkserver.connect_to_new_process = unlucky  # type: ignore[assignment]
    sys.exit(gateway.main(sys.argv[1:], create_app))
