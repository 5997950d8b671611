"""A server that answers with given bytes, for what no HTTP library would send."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

CLOSE, RESET, STALL = "close", "reset", "stall"
Step = bytes | str | float  # bytes to write, seconds to wait, or one of the words above


@dataclass
class RawServer:
    """Each request gets the next list of steps; the last one repeats."""

    scripts: list[list[Step]]
    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    accepted: int = 0
    open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.accepted += 1
        self.open += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, BrokenPipeError, ssl.SSLError):
            pass
        finally:
            self.open -= 1
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        _, _, length = head.lower().partition(b"content-length: ")
        self.requests.append(head + await reader.readexactly(int(length.split(b"\r\n")[0] or 0)))
        for step in self.scripts[min(len(self.requests), len(self.scripts)) - 1]:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif step == STALL:
                await reader.read(1)
                return False
            elif step in (CLOSE, RESET):
                if step == CLOSE:
                    writer.close()
                return False
            else:
                await asyncio.sleep(float(step))
        return True


@asynccontextmanager
async def raw_server(*scripts: list[Step], tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Runs one; at the end no connection may be open."""
    raw = RawServer(list(scripts))
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0, ssl=tls)
    raw.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield raw
    finally:
        server.close()
        await until(lambda: not raw.open)
        await server.wait_closed()


async def until(condition: Callable[[], bool], within_s: float = 2.0) -> None:
    """Waits for a condition. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)
