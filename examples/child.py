"""A process that the demo starts: it logs into a file, and dies with the demo however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2): the signal that a process gets when its parent dies
TAIL_LINES = 15


class ChildEnded(Exception):
    """A process ended on its own; the message carries the end of its log."""


class Child:
    """One process, in a session of its own: a Ctrl-C in the terminal reaches only the demo, which stops it in order."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - the demo has one thread
            )

    def output(self) -> str:
        """What it has written so far."""
        return self._log.read_text("utf-8", errors="replace")

    def check(self) -> None:
        """Raises ChildEnded when it runs no more."""
        if (code := self._process.poll()) is not None:
            tail = "\n".join(f"  {line}" for line in self.output().splitlines()[-TAIL_LINES:])
            raise ChildEnded(f"The {self.name} ended by itself (exit code {code}). The end of {self._log}:\n{tail}")

    def stop(self, patience_s: float) -> None:
        """Asks it to end, waits, and at last kills it with all of its own children."""
        self._process.terminate()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
