"""The scripted nodes behind the gateway under test: their own event loop in a thread, so that they outlive a test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.fakes.node_server import HELLO, NodeServer

PETALS, AGENT = "bigscience/bloom-560m", "meta-llama/Llama-3.1-8B"
OPENAI, TWINS = "HuggingFaceTB/SmolLM2-135M-Instruct", "mistralai/Mistral-7B-Instruct-v0.2"
PRO = "meta-llama/Llama-3.1-70B"  # of the catalogue, served by nobody


class Network:
    """A node of each kind, each with a model of its own, and two agents that share one."""

    def __init__(self) -> None:
        self.petals = NodeServer(kind="petals", model=PETALS)
        self.agent = NodeServer(kind="agent", model=AGENT)
        self.openai = NodeServer(kind="openai", model=OPENAI)
        self.twins = [NodeServer(kind="agent", model=TWINS), NodeServer(kind="agent", model=TWINS)]
        self.nodes = [self.petals, self.agent, self.openai, *self.twins]

    @property
    def urls(self) -> str:
        """All of them, as NODE_URLS takes them."""
        return ",".join(node.url for node in self.nodes)

    def node_of(self, model: str) -> NodeServer:
        """The node that serves a model; the first twin for theirs."""
        return next(node for node in self.nodes if node.model == model)

    def reset(self) -> None:
        """Makes every node well again and forgets what it saw."""
        for node in self.nodes:
            node.answers, node.fault, node.after = (HELLO,), None, 1
            node.delay_s, node.split, node.close = 0.0, 0, False
            node.requests.clear()
            node.left = 0


@contextmanager
def running() -> Iterator[Network]:
    """The network, listening."""
    network, loop = Network(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    for node in network.nodes:
        asyncio.run_coroutine_threadsafe(node.start(), loop).result(10)
    try:
        yield network
    finally:
        for node in network.nodes:
            asyncio.run_coroutine_threadsafe(node.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
