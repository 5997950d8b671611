"""The Oracle's push channel: it tells that something has changed, and nothing that it says is believed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import SystemRandom
from typing import Annotated

import aiohttp
import msgspec
from msgspec import Meta

from core.oracle.client import HEADERS, MAX_BODY, TIMEOUT_S, no_redirects

NAMESPACE = "/pipeline"
CLOSING_S = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # a connection that lasted for the longest pause was a good one
TRANSPORT = {"EIO": "4", "transport": "websocket"}
# Messages by what stands before their first comma: the type of Engine.IO 4, the one of Socket.IO 5, the namespace.
OPEN, CLOSE, PING, PONG = "0123"
CONNECT, DISCONNECT, EVENT, REFUSAL = (f"4{kind}{NAMESPACE}" for kind in "0124")
MAX_HEAD = 64  # characters
ENDS = (None, CLOSE, DISCONNECT, REFUSAL)
GONE = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED)

log = logging.getLogger(__name__)
chance = SystemRandom()


class ProtocolBroken(Exception):
    """The Oracle sent what is no message of a push channel."""


class Opening(msgspec.Struct, rename="camel"):
    """The first message behind its type: how often the Oracle pings, and when it takes a silent client for gone."""

    ping_interval: Annotated[int, Meta(gt=0, le=600_000)]  # ms
    ping_timeout: Annotated[int, Meta(gt=0, le=600_000)]  # ms

    @property
    def silence_s(self) -> float:
        """After so much silence the Oracle is gone."""
        return (self.ping_interval + self.ping_timeout) / 1000


class PushChannel:
    """
    Calls `changed` on every event, and after every (re)connection, since events may have been missed before it.

    It speaks as much Socket.IO as that takes: of a message no more than its head is read, and none is kept.
    """

    def __init__(self, url: str, changed: Callable[[], None]) -> None:
        self._url = f"{url.rstrip('/')}/socket.io/"
        self._changed = changed
        self._said = ""

    async def run(self) -> None:
        """Stays connected until it is cancelled; after each loss it waits longer, with jitter."""
        pause_s, now = FIRST_PAUSE_S, asyncio.get_running_loop().time
        while True:
            began = now()
            await self._listen()
            if now() - began > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s * chance.uniform(0.5, 1))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _listen(self) -> None:
        """One connection, from its beginning to its end."""
        away = "away"
        try:
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=HEADERS,
                trace_configs=[no_redirects()],
            ) as session:
                await self._follow(session)
        except ProtocolBroken:
            away = "away, since it breaks its protocol"
        except (aiohttp.ClientError, OSError, ValueError):
            pass
        self._note(f"{away}: it is only polled")

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        """Ends with the connection. Raises ProtocolBroken, aiohttp.ClientError, OSError, ValueError."""
        loop, closing = asyncio.get_running_loop(), aiohttp.ClientWSTimeout(ws_close=CLOSING_S)
        async with asyncio.timeout(TIMEOUT_S) as deadline:
            async with session.ws_connect(
                self._url, params=TRANSPORT, max_msg_size=MAX_BODY, timeout=closing
            ) as socket:
                silence_s = await _opened(socket)
                while (head := await _head(socket)) not in ENDS:
                    if head == CONNECT:
                        self._note("there")
                    if head in (CONNECT, EVENT):
                        self._changed()
                    if head == PING:
                        await socket.send_str(PONG)
                    if self._said == "there":
                        deadline.reschedule(loop.time() + silence_s)

    def _note(self, what: str) -> None:
        if what != self._said:
            log.info("the Oracle's push channel is %s", what)
        self._said = what


async def _opened(socket: aiohttp.ClientWebSocketResponse) -> float:
    """Asks for the namespace once the Oracle has begun; gives `Opening.silence_s`. Raises ProtocolBroken."""
    message = await socket.receive()
    if message.type is not aiohttp.WSMsgType.TEXT or not message.data.startswith(OPEN):
        raise ProtocolBroken
    try:
        opening = msgspec.json.decode(message.data[len(OPEN) :], type=Opening)
    except (msgspec.DecodeError, RecursionError):
        raise ProtocolBroken from None
    await socket.send_str(f"{CONNECT},")
    return opening.silence_s


async def _head(socket: aiohttp.ClientWebSocketResponse) -> str | None:
    """The head of the next message; None when the connection has ended. Raises ProtocolBroken."""
    message = await socket.receive()
    if message.type in GONE:
        return None
    if message.type is not aiohttp.WSMsgType.TEXT:  # an attachment, or no UTF-8, or too large
        raise ProtocolBroken
    text: str = message.data
    return text[:MAX_HEAD].partition(",")[0]
