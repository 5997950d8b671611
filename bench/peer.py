"""What a peer is, and how one is waited for."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench.scenarios import SCENARIOS

CHAT = "/v1/chat/completions"
START_S = 30


class NotReady(Exception):
    """A peer can't be measured; the message says why."""


@dataclass(frozen=True)
class Peer:
    """A running peer: the root of its process tree, its port, and the tokens that it knows."""

    pid: int
    port: int
    tokens: Sequence[str] = ("none",)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"


Start = Callable[[Sequence[int], Path], AbstractContextManager[Peer]]  # of nodes' ports and a folder of its own


def wait(ready: Callable[[], bool], log: Path, patience_s: float = START_S) -> None:
    """Returns when it is ready. Raises NotReady with the end of its log."""
    deadline = time.monotonic() + patience_s
    while not ready():
        if time.monotonic() > deadline:
            raise NotReady(f"not ready after {patience_s:g} s:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def status(url: str, token: str = "") -> int:
    """The status of a GET, or with a token of a chat; 0 when nobody answers."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"} if token else {}
    request = urllib.request.Request(url, SCENARIOS["json"].body().encode() if token else None, headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code
    except OSError:
        return 0
