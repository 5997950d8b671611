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
from bench.processes import LOAD_CORE, PEER_CORE, listener, resident, resident_at_most, used
from bench.scenarios import SCENARIOS
from examples.sign_in import sign_in, wallet

STREAMS = (500, 1500)
SECONDS = 3.0
STARTS, FURTHER = 5, 3


@dataclass(frozen=True)
class Rest:
    """In MB, KB and seconds. All processes of a gateway but Redis, which have answered and rest, share memory."""

    worker_mb: float  # a web worker, with what it shares
    tree_mb: float  # all processes of one web worker's gateway; what they share counts once
    further_mb: float  # what a further web worker adds to that
    stream_kb: float  # of an open stream
    start_s: float  # to the first answer, two workers, the wallet's sign-in included


@contextmanager
def rested(workers: int) -> Iterator[Peer]:
    """A gateway each of whose workers has answered."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with mock_nodes(SCENARIOS["json"], 1, folder) as nodes, gateway(nodes, folder, workers) as peer:
            for token in [*peer.tokens] * workers:
                status(peer.url + CHAT, token)
            yield peer


def memory(workers: int) -> float:
    """All processes with so many web workers, in MB."""
    with rested(workers) as peer:
        return used(peer.pid).memory / 1e6


def worker() -> float:
    """A single web worker's, in MB."""
    with rested(1) as peer:
        return resident(listener(peer.pid, peer.port)) / 1e6


def with_streams(count: int) -> float:
    """A web worker's memory in MB while so many streams are open."""
    seen: list[int] = []

    @contextmanager
    def watched(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
        with gateway(nodes, folder) as peer:
            yield peer
            seen.append(resident_at_most(listener(peer.pid, peer.port)))

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
    tree_mb = memory(1)
    further_mb = (memory(1 + FURTHER) - tree_mb) / FURTHER
    few, many = STREAMS
    stream_kb = (with_streams(many) - with_streams(few)) * 1000 / (many - few)
    return Rest(worker(), tree_mb, further_mb, stream_kb, min(start() for _ in range(STARTS)))


def text(figures: Rest) -> str:
    """As a Markdown table."""
    return f"""
| what | figure |
|---|---|
| main process, fork server, one web worker and the background worker at rest | {figures.tree_mb:.0f} MB |
| each further web worker | {figures.further_mb:.0f} MB |
| a web worker at rest, with what it shares with the others | {figures.worker_mb:.0f} MB |
| an open stream | {figures.stream_kb:.0f} KB |
| from the start of two workers to the first answer | {figures.start_s:.1f} s |
"""


if __name__ == "__main__":
    print(text(rest()))
