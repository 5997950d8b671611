"""A proxy between a gateway and its Redis: it can tell the moment in which Redis has done something nobody heard of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from tests.fakes.threaded_server import ThreadedServer

CHUNK = 64 * 1024


class RedisProxy(ThreadedServer):
    """Passes everything on, over TCP, until `cut` says otherwise. `url` is what a gateway takes."""

    def __init__(self, redis_socket: Path) -> None:
        self.url = ""
        self._redis_socket = redis_socket
        self._mark = b""
        self._then: Callable[[], None] = lambda: None
        self._open: set[asyncio.Task[None]] = set()

    def cut(self, mark: bytes, then: Callable[[], None]) -> None:
        """
        The next command with `mark` in it is done by Redis, but its reply goes nowhere: `then` is called instead.

        The mark has to come in one packet, as everything does that is small.
        """
        self._mark, self._then = mark, then

    async def _serve(self, started: threading.Event) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await self._stopped.wait()
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        redis, to_redis = await asyncio.open_unix_connection(str(self._redis_socket))
        with closing(to_client), closing(to_redis), suppress(OSError, asyncio.CancelledError):
            replies = asyncio.create_task(_copy(redis, to_client))
            try:
                await self._pass_on(client, to_redis, replies)
            finally:
                replies.cancel()
                await asyncio.gather(replies, return_exceptions=True)

    async def _pass_on(
        self, client: asyncio.StreamReader, to_redis: asyncio.StreamWriter, replies: asyncio.Task[None]
    ) -> None:
        while data := await client.read(CHUNK):
            if self._mark and self._mark in data:
                self._mark = b""
                replies.cancel()
                to_redis.write(data)
                await to_redis.drain()
                self._then()
                return
            to_redis.write(data)
            await to_redis.drain()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(CHUNK):
            target.write(data)
            await target.drain()
