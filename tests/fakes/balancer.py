"""A plain HTTP balancer: each request goes to the next server, whoever sent it; an upgrade stays where it went."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import cycle
from typing import Any

CHUNK = 64 * 1024
LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
UPGRADE = re.compile(rb"\r\nupgrade:\s*websocket", re.IGNORECASE)
CONNECTION = re.compile(rb"\r\nconnection:[^\r]*", re.IGNORECASE)


class Balancer:
    """One request a connection, so that round robin is by request; `requests` counts them by server port."""

    def __init__(self, ports: list[int]) -> None:
        self.requests = dict.fromkeys(ports, 0)
        self.url = ""
        self._next = cycle(ports)

    async def start(self) -> asyncio.Server:
        """Listens on a free port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with closing(to_client), suppress(OSError, asyncio.IncompleteReadError):
            head = await client.readuntil(b"\r\n\r\n")
            if not UPGRADE.search(head):
                head = CONNECTION.sub(b"", head).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            length = LENGTH.search(head)
            body = await client.readexactly(int(length[1])) if length else b""
            port = next(self._next)
            self.requests[port] += 1
            backend, to_backend = await asyncio.open_connection("127.0.0.1", port)
            with closing(to_backend):
                to_backend.write(head + body)
                await _either(_copy(client, to_backend), _copy(backend, to_client))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(CHUNK):
            target.write(data)
            await target.drain()


async def _either(*copies: Coroutine[Any, Any, None]) -> None:
    """Until one side is closed: then both are."""
    tasks = [asyncio.create_task(copy) for copy in copies]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def balancing(ports: list[int]) -> Iterator[Balancer]:
    """The balancer, listening, in an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    balancer = Balancer(ports)
    server = asyncio.run_coroutine_threadsafe(balancer.start(), loop).result(10)
    try:
        yield balancer
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
