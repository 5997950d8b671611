"""A client that sends what it likes: one WebSocket, and Engine.IO packets as text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from blueprints.socket.frames import PATH
from blueprints.socket.session import Session
from tests.socket.conftest import Door


@asynccontextmanager
async def opened(door: Door, **options: Any) -> AsyncIterator[ClientConnection]:
    """An Engine.IO session on a WebSocket, in no namespace yet."""
    url = f"ws://127.0.0.1:{door.port}/socket.io/?EIO=4&transport=websocket"
    async with connect(url, compression=None, **options) as websocket:
        assert str(await websocket.recv()).startswith("0{")
        yield websocket


@asynccontextmanager
async def signed_in(door: Door, **options: Any) -> AsyncIterator[tuple[ClientConnection, Session]]:
    """One that is in the namespace, with the server's side of it."""
    async with opened(door, **options) as websocket:
        before = set(door.namespace._clients)
        await websocket.send(f"40{PATH},{json.dumps({'token': door.token})}")
        assert str(await websocket.recv()).startswith(f"40{PATH},")
        [sid] = set(door.namespace._clients) - before
        yield websocket, door.server.eio.sockets[door.server.manager.eio_sid_from_sid(sid, PATH)]


class Poller:
    """A session by long polling, one request at a time."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    async def poll(self) -> list[str]:
        """The packets of one answer."""
        async with self._http.get(self._url) as answer:
            assert answer.status == 200
            return (await answer.text()).split("\x1e")

    async def is_over(self) -> bool:
        """Whether the session is unknown, or its last packets say so."""
        for _ in range(20):
            async with self._http.get(self._url) as answer:
                if answer.status == 400:
                    return True
        return False

    async def post(self, *packets: str) -> int:
        """The status."""
        async with self._http.post(self._url, data="\x1e".join(packets)) as answer:
            return answer.status


@asynccontextmanager
async def polling(door: Door) -> AsyncIterator[Poller]:
    """One that is in the namespace."""
    url = f"{door.url}/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession() as http:
        [opening] = await Poller(http, url).poll()
        poller = Poller(http, f"{url}&sid={json.loads(opening[1:])['sid']}")
        assert await poller.post(f"40{PATH},{json.dumps({'token': door.token})}") == 200
        assert (await poller.poll())[0].startswith(f"40{PATH},")
        yield poller


async def until_closed(websocket: ClientConnection) -> None:
    """Reads until the server has ended it. Raises TimeoutError when it does not."""
    async with asyncio.timeout(5):
        with suppress(ConnectionClosed):  # it was cut
            async for _ in websocket:
                pass


def emitted(event: str, data: Any) -> str:
    """An event as a client sends it."""
    return f"42{PATH},{json.dumps([event, data])}"


def read(packet: str | bytes) -> list[Any]:
    """The event in a packet, as its name and data."""
    assert isinstance(packet, str)
    assert packet.startswith(f"42{PATH},"), packet
    event: list[Any] = json.loads(packet.removeprefix(f"42{PATH},"))
    return event
