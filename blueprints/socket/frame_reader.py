"""Reads the frames of a client's WebSocket, the last ones too."""

from __future__ import annotations

import asyncio
from typing import Any

from sanic.server.websockets.impl import CLOSED, WebsocketImplProtocol

LAST_FRAMES_S = 0.05  # what frames that came together with the end have to be read


class FrameReader:
    """
    Sanic's WebSocket as python-engineio uses it: `wait`, `send` and `close`.

    Sanic's own `recv` drops a message that is read in the moment in which the connection ends, and the message
    before the end is the one that says whether the client left for good.
    """

    def __init__(self, websocket: WebsocketImplProtocol) -> None:
        self._websocket = websocket
        self._ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        websocket.recv_cancel = self._ended  # Sanic cancels it at the end
        if websocket.ws_proto.state is CLOSED:
            self._ended.cancel()

    async def wait(self) -> Any:
        """The next message. Raises OSError at the end."""
        message: asyncio.Future[Any] = asyncio.create_task(self._websocket.assembler.get())
        try:
            await asyncio.wait([message, self._ended], return_when=asyncio.FIRST_COMPLETED)
            if not message.done():
                await asyncio.wait({message}, timeout=LAST_FRAMES_S)
            if not message.done():
                raise OSError("the WebSocket has ended")
            return message.result()
        finally:
            message.cancel()

    async def send(self, message: str) -> None:
        """Sends one message, and waits while the client is slow."""
        await self._websocket.send(message)

    async def close(self) -> None:
        """Says good-bye."""
        await self._websocket.close()
