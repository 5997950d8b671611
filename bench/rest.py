"""What the gateway needs besides CPU: memory, and the time from its start to the first answer."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.gateway import gateway, served
from bench.measure import measured, mock_nodes
from bench.peer import CHAT, Peer, status, wait
from bench.processes import LOAD_CORE, PEER_CORE, listener, used
from bench.scenarios import SCENARIOS
from examples.sign_in import sign_in, wallet

STREAMS = (500, 1500)
SECONDS = 3.0
STARTS = 5


@dataclass(frozen=True)
class Rest:
    """In MB, KB and seconds; memory is what is resident (RSS), with streams open at its most."""

    worker_mb: float  # a web worker that has answered, and rests
    tree_mb: float  # all processes of one worker's gateway, Redis' own apart
    stream_kb: float  # of an open stream
    start_s: float  # to the first answer, two workers, the wallet's sign-in included


def memory() -> tuple[float, float]:
    """A web worker's and the whole tree's, at rest, in MB."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with mock_nodes(SCENARIOS["json"], 1, folder) as nodes, gateway(nodes, folder) as peer:
            for token in peer.tokens:
                status(peer.url + CHAT, token)
            return listener(peer.pid, peer.port).rss / 1e6, used(peer.pid).rss / 1e6


def with_streams(count: int) -> float:
    """A web worker's memory in MB while so many streams are open."""
    seen: list[int] = []

    @contextmanager
    def watched(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
        with gateway(nodes, folder) as peer:
            yield peer
            seen.append(listener(peer.pid, peer.port).peak)

    measured(watched, replace(SCENARIOS["paced"], connections=count), SECONDS)
    return seen[0] / 1e6


def start() -> float:
    """Seconds from the start of two workers to the first answer."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with mock_nodes(SCENARIOS["json"], 1, folder) as nodes:
            began = time.monotonic()
            with served(nodes, folder, 2, "", (PEER_CORE, LOAD_CORE), {}) as peer:
                token = sign_in(peer.url, wallet(None))
                wait(lambda: status(peer.url + CHAT, token) == 200, folder / "gateway.log")
                return time.monotonic() - began


def rest() -> Rest:
    """All of it; the start is the best of some, since everything else on the machine only adds to it."""
    worker_mb, tree_mb = memory()
    few, many = STREAMS
    stream_kb = (with_streams(many) - with_streams(few)) * 1000 / (many - few)
    return Rest(worker_mb, tree_mb, stream_kb, min(start() for _ in range(STARTS)))


def text(figures: Rest) -> str:
    """As a Markdown table."""
    return f"""
| what | figure |
|---|---|
| a web worker at rest | {figures.worker_mb:.0f} MB |
| main process, one web worker and the background worker at rest | {figures.tree_mb:.0f} MB |
| an open stream | {figures.stream_kb:.0f} KB |
| from the start of two workers to the first answer | {figures.start_s:.1f} s |
"""


if __name__ == "__main__":
    print(text(rest()))
