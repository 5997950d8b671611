"""
A scripted inference node: a true HTTP server that speaks as Petals, plumise-agent or llama-server, and misbehaves.

In a test:            `async with NodeServer(kind="agent", answers=["Hello there"]) as node: ... node.url`
As its own process:   `python -m tests.fakes.node_server --kind openai --port 0 --answer "Hello"` prints its URL;
                      GET /_state tells what it saw, POST /_script changes `answers`, `fault`, `after`, `delay_s`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from bench.ports import free_port
from tests.fakes.node_connection import ADDRESS, Connection
from tests.fakes.node_script import PATHS, Fault, Reply, Seen, stopped

__all__ = ["ADDRESS", "HELLO", "Fault", "NodeServer", "Reply", "Seen"]

HELLO = "Hello from the node."


@dataclass
class NodeServer:
    """One node. Change its attributes at any time; the next request follows them."""

    kind: str = "petals"  # petals, agent or openai
    model: str = "bigscience/bloom-560m"
    answers: Sequence[str | Sequence[str]] = (HELLO,)  # texts, or lists of tokens; one a request, the last repeats
    fault: str | None = None
    after: int = 1
    delay_s: float = 0.0  # before each token
    mode: str = "pipeline"  # an agent's; "single" sends one token event
    secret: str | None = None
    port: int = 0
    split: int = 0  # writes of so many bytes each; 0 writes whole events
    close: bool = False  # answers with Connection: close
    health: dict[str, Any] | None = None  # instead of the usual /health
    tls: ssl.SSLContext | None = None
    reasoning: bool = False  # openai: reasoning_content before the text

    requests: list[Seen] = field(default_factory=list)
    accepted: int = 0  # connections, ever
    working: int = 0  # answers being made now
    left: int = 0  # answers whose client went away
    connections: set[Connection] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The address that it listens on."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def generated(self) -> list[Seen]:
        """The requests that asked for an answer."""
        return [seen for seen in self.requests if seen.method == "POST"]

    async def start(self) -> None:
        """Listens; on a restart, on the same port."""
        loop = asyncio.get_running_loop()
        self.port = self.port or free_port()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", self.port, ssl=self.tls)

    async def stop(self) -> None:
        """Stops listening and cuts what is open: from here on it refuses connections."""
        if self._server is not None:
            self._server.close()
            for connection in list(self.connections):
                connection.transport.abort()
            await self._server.wait_closed()
            while self.connections:
                await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def idle(self, within_s: float = 1.0) -> None:
        """Waits until no answer is being made. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while self.working:
                await asyncio.sleep(0.005)

    def reply(self, seen: Seen) -> Reply:
        """What the script has for this request, within its token limit and stop sequences."""
        body, turn = seen.body, [seen is one for one in self.generated].index(True)
        answer = self.answers[min(turn, len(self.answers) - 1)]
        limit = body.get("max_tokens") or (body.get("parameters") or {}).get("max_new_tokens") or 128
        tokens = re.findall(r"\s*\S+|\s+$", answer) if isinstance(answer, str) else list(answer)
        finish = "length" if len(tokens) > limit else "stop"
        tokens = stopped(tokens[:limit], body.get("stop") or [])
        if self.fault == Fault.EMPTY:
            tokens = []
        return Reply(
            tokens,
            finish,
            stream=bool(body.get("stream")) and self.kind != "petals" and self.fault != Fault.JSON_ANYWAY,
            chat="messages" in body,
            usage=bool((body.get("stream_options") or {}).get("include_usage")),
            prompt_tokens=len(json.dumps(body.get("messages") or body.get("inputs") or body.get("prompt")).split()),
        )

    def state(self) -> dict[str, Any]:
        """What /_state tells."""
        return {
            "url": self.url,
            "requests": [vars(seen) for seen in self.requests],
            "accepted": self.accepted,
            "working": self.working,
            "left": self.left,
            "open": len(self.connections),
        }


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="A scripted inference node")
    parser.add_argument("--kind", choices=sorted(PATHS), default="petals")
    parser.add_argument("--model", default="bigscience/bloom-560m")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--answer", action="append", help="may be given several times: one a request, the last repeats")
    parser.add_argument("--fault", choices=[fault.value for fault in Fault])
    parser.add_argument("--after", type=int, default=1)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--mode", choices=["pipeline", "single"], default="pipeline")
    parser.add_argument("--secret")
    args = parser.parse_args()
    node = NodeServer(
        kind=args.kind,
        model=args.model,
        answers=args.answer or (HELLO,),
        fault=args.fault,
        after=args.after,
        delay_s=args.delay,
        mode=args.mode,
        secret=args.secret,
        port=args.port,
    )
    asyncio.run(_serve_until_told(node))


async def _serve_until_told(node: NodeServer) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with node:
        print(node.url, flush=True)
        await stop.wait()


if __name__ == "__main__":
    main()
