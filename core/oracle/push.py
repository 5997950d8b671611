"""The Oracle's push channel: it tells that something has changed, and nothing that it says is believed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from random import SystemRandom
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import socketio
from socketio.packet import Packet

from core.oracle.client import HEADERS, MAX_BODY, TIMEOUT_S, no_redirects

NAMESPACE = "/pipeline"
LOOK_S = 0.5  # how often it is seen whether the connection is still there
CLOSING_S = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0

log = logging.getLogger(__name__)
chance = SystemRandom()
# The library logs each lost connection and each malformed message; this module says what matters of it.
quiet = logging.getLogger(f"{__name__}.library")
quiet.setLevel(logging.CRITICAL)


class TextPacket(Packet):  # type: ignore[misc] # the library carries no annotations
    """A Socket.IO packet without attachments: gathering them would fill the memory as the sender likes."""

    def decode(self, encoded_packet: str) -> int:
        if super().decode(encoded_packet):
            raise ValueError("it has attachments")
        return 0


class PushChannel:
    """Calls `changed` on every event, and after every (re)connection, since events may have been missed before it."""

    def __init__(self, url: str, changed: Callable[[], None]) -> None:
        self._url = url
        self._changed = changed
        self._path = f"{urlsplit(url).path.strip('/')}/socket.io".lstrip("/")
        self._was_there: bool | None = None

    async def run(self) -> None:
        """Stays connected until it is cancelled; after each loss it waits longer, with jitter."""
        pause_s = FIRST_PAUSE_S
        while True:
            if await self._listen():
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s * chance.uniform(0.5, 1))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _listen(self) -> bool:
        """One connection, from its beginning to its end; whether there was one."""
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers=HEADERS, trace_configs=[no_redirects()]
        ) as session:
            client, connected = self._client(session), False
            try:
                # Only WebSocket: each message has a size limit there.
                await client.connect(
                    self._url,
                    namespaces=[NAMESPACE],
                    transports=["websocket"],
                    socketio_path=self._path,
                    wait_timeout=TIMEOUT_S,
                )
                connected = True
                self._note(is_there=True)
                self._changed()
                # Not client.wait(): a cancellation may get lost in it.
                while client.eio.state == "connected":  # noqa: ASYNC110 - the library has no event for each way to end
                    await asyncio.sleep(LOOK_S)
            except (socketio.exceptions.SocketIOError, aiohttp.ClientError, OSError, ValueError):
                pass
            finally:
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSING_S):
                        await client.eio.disconnect(abort=True)
            self._note(is_there=False)
            return connected

    def _client(self, session: aiohttp.ClientSession) -> Any:
        client = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            logger=quiet,
            engineio_logger=quiet,
            serializer=TextPacket,
            http_session=session,
            request_timeout=TIMEOUT_S,
            websocket_extra_options={"max_msg_size": MAX_BODY},
        )
        client.on("*", self._heard, namespace=NAMESPACE)
        return client

    async def _heard(self, _event: str, *_: object) -> None:
        self._changed()

    def _note(self, *, is_there: bool) -> None:
        if is_there != self._was_there:
            log.info("the Oracle's push channel is %s", "there" if is_there else "away: it is only polled")
        self._was_there = is_there
