"""Carries frames between a client's WebSocket and the link to its session's owner."""

from __future__ import annotations

import asyncio
from typing import Protocol

from blueprints.socket.link import Link

GOING_AWAY = 1001  # RFC 6455: clients take it as a lost connection and reconnect


class WebSocket(Protocol):
    """As much of Sanic's as is used here."""

    async def recv(self) -> str | bytes | None: ...

    async def send(self, message: str) -> None: ...

    async def close(self, code: int) -> None: ...


async def pump(websocket: WebSocket, link: Link) -> None:
    """Until either side ends, or sends what no session takes; what the owner sent before its end reaches the client."""
    directions = [asyncio.create_task(_up(websocket, link)), asyncio.create_task(_down(websocket, link))]
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
        link.close_now()
        await websocket.close(GOING_AWAY)


async def _up(websocket: WebSocket, link: Link) -> None:
    while isinstance(data := await websocket.recv(), str):
        await link.send(data)


async def _down(websocket: WebSocket, link: Link) -> None:
    while (data := await link.recv()) is not None:
        await websocket.send(data)
