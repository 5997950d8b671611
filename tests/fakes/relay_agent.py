"""
An agent behind NAT, as agent-app is one: connects to a gateway's relay, signs in, answers what it is asked.

In an async test:  `async with RelayAgent(url, wallet) as agent: ...`
In a plain one:    `with running(RelayAgent(url, wallet)) as agent: ...` (its own event loop in a thread)
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.fakes.wallet import Wallet

MODEL = "qwen/qwen3-32b"
HELLO = ("Hello", " from", " the", " agent.")


class Fault(StrEnum):
    """How an agent misbehaves once it is asked."""

    SILENT = "silent"
    EMPTY = "empty"  # done, and no chunk
    ERROR = "error"
    OVERFLOW = "overflow"  # an error that says that the prompt is too long
    ERROR_LATER = "error-later"  # after the first chunk
    STALL = "stall"  # after the first chunk
    LEAVE = "leave"  # after the first chunk, without a word
    ENDLESS = "endless"
    GIANT = "giant"
    GARBAGE = "garbage"


def auth_message(wallet: Wallet, model: str, timestamp: int | None = None) -> dict[str, Any]:
    """The first message, signed as agent-app does it; now, unless a time is given."""
    at = int(time.time()) if timestamp is None else timestamp
    claims = {"address": wallet.address, "model": model, "timestamp": at}
    signature = wallet.sign(json.dumps(claims, separators=(",", ":"), ensure_ascii=False))
    return {"type": "auth", **claims, "signature": signature}


class RelayAgent:
    """One agent. Change its attributes at any time; the next request follows them."""

    def __init__(self, url: str, wallet: Wallet, model: str = MODEL, answer: Sequence[str] = HELLO) -> None:
        self.url = url.replace("http", "ws", 1) + "/ws/agent-relay"
        self.wallet = wallet
        self.model = model
        self.answer = answer
        self.delay_s = 0.0  # before each chunk
        self.fault: str | None = None
        self.pongs = 0
        self.requests: list[dict[str, Any]] = []
        self.closed: tuple[int | None, str] | None = None  # code and reason
        self.socket: ClientConnection
        self._reading: asyncio.Task[None] | None = None
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def node_url(self) -> str:
        """Its URL among the nodes."""
        return f"relay://{self.wallet.address}"

    async def join(self) -> dict[str, Any]:
        """Connects and signs in; what the gateway says to that."""
        self.socket = await connect(self.url, proxy=None, ping_interval=None, close_timeout=1)
        await self.send(auth_message(self.wallet, self.model))
        said: dict[str, Any] = json.loads(await self.socket.recv())
        self.closed = None
        self._reading = asyncio.create_task(self._read())
        return said

    async def __aenter__(self) -> Self:
        said = await self.join()
        assert said == {"type": "auth_ok"}, said
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Closes the connection."""
        await self.socket.close()
        if self._reading is not None:
            await self._reading
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def send(self, message: dict[str, Any]) -> None:
        """One JSON message."""
        await self.socket.send(json.dumps(message, ensure_ascii=False))

    async def _read(self) -> None:
        try:
            async for raw in self.socket:
                message = json.loads(raw)
                if message["type"] == "request":
                    self.requests.append(message)
                    task = asyncio.create_task(self._serve(message))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                self.pongs += message["type"] == "pong"
        except ConnectionClosed:
            pass
        self.closed = self.socket.close_code, self.socket.close_reason or ""

    async def _serve(self, asked: dict[str, Any]) -> None:
        with suppress(ConnectionClosed):
            if self.fault in (Fault.ERROR, Fault.OVERFLOW):
                text = "exceeds the available context size" if self.fault == Fault.OVERFLOW else "CUDA out of memory"
                await self.send({"type": "error", "id": asked["id"], "message": text})
            elif self.fault == Fault.GARBAGE:
                kind = "chunk" if asked["stream"] else "response"
                await self.send({"type": kind, "id": asked["id"], "content": {"no": "text"}, "choices": 1})
            elif self.fault == Fault.SILENT:
                pass
            elif asked["stream"]:
                await self._stream(asked["id"])
            else:
                await self._whole(asked["id"])

    async def _whole(self, request_id: str) -> None:
        text = "" if self.fault == Fault.EMPTY else "".join(self.answer)
        if self.fault == Fault.GIANT:
            text = "x" * 900_000
        await asyncio.sleep(self.delay_s * len(self.answer))
        usage = {"prompt_tokens": 3, "completion_tokens": len(self.answer)}
        choices = [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
        await self.send({"type": "response", "id": request_id, "choices": choices, "usage": usage})

    async def _stream(self, request_id: str) -> None:
        for number, content in enumerate(() if self.fault == Fault.EMPTY else self.answer):
            await asyncio.sleep(self.delay_s)
            if number == 1 and self.fault == Fault.ERROR_LATER:
                await asyncio.sleep(0.2)  # in one read with the chunk it would be an error before the first token
                return await self.send({"type": "error", "id": request_id, "message": "CUDA out of memory"})
            if number == 1 and self.fault == Fault.STALL:
                return None
            if number == 1 and self.fault == Fault.LEAVE:
                await asyncio.sleep(0.2)  # a reset overtakes what was sent just before
                return self.socket.transport.abort()
            text = "x" * 900_000 if self.fault == Fault.GIANT else content
            await self.send({"type": "chunk", "id": request_id, "content": text})
        if self.fault == Fault.ENDLESS:
            await asyncio.sleep(0.2)  # in one read with the first chunk it would be too much before the first token
        while self.fault == Fault.ENDLESS:
            await self.send({"type": "chunk", "id": request_id, "content": " and on" * 10})
        return await self.send({"type": "done", "id": request_id})


class Running:
    """An event loop in a thread, for agents in plain tests."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, act: Any) -> Any:
        """The outcome of a coroutine of an agent."""
        return asyncio.run_coroutine_threadsafe(act, self._loop).result(20)

    def close(self) -> None:
        """Ends the loop; agents have left by then."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@contextmanager
def agents_loop() -> Iterator[Running]:
    """A loop for agents."""
    running = Running()
    try:
        yield running
    finally:
        running.close()
