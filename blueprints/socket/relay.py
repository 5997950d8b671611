"""Serves sessions whose owner is on another machine: requests, answers and frames travel over the bus."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from sanic import HTTPResponse, Request
from sanic.compat import Header
from sanic.response import raw

from blueprints.socket.connection import connection_of
from blueprints.socket.link import Link
from blueprints.socket.messages import Answer, Ask, Beat, Headers, decode, encode
from blueprints.socket.pump import pump
from blueprints.socket.refusals import bad_request, unknown_session
from core import redis_keys
from core.bus import Bus
from core.errors import StoreUnavailable

PURPOSE = "socket"
BEAT_S = 1.0
SILENT_S = 10.0  # a worker that was not heard for so long is frozen
MOST_LINKS = 10_000  # of one worker

Serve = Callable[[Any], Awaitable[Any]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RelayedRequest:
    """A request at its session's owner: as much of Sanic's as python-socketio looks at."""

    method: str
    url: str
    headers: Header
    body: bytes
    link: Link
    version: str = "1.1"

    @property
    def transport(self) -> RelayedRequest:
        return self

    def get_protocol(self) -> RelayedRequest:
        return self

    async def websocket_handshake(self, _: object) -> Link:
        self.link.accept()
        return self.link


class Relay:
    """
    One worker's side of all links: asker for the connections it holds, owner for its sessions.

    Workers that share links tell each other every second that they live, so that a client of a dead owner is let
    go at once: it reconnects to another worker.
    """

    def __init__(self, bus: Bus, worker_id: str, serve: Serve) -> None:
        self._bus = bus
        self._worker_id = worker_id
        self._serve = serve
        self._links: dict[str, Link] = {}
        self._heard: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Hears the other workers from now on."""
        await self._bus.subscribe(_topic(self._worker_id), self._receive)
        self._bus.when_back(self.end_links)
        self._start(self._beat())

    async def aclose(self) -> None:
        """Closes all links and hears nobody any more."""
        self.close_links()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._bus.unsubscribe(_topic(self._worker_id))

    def close_links(self) -> None:
        """Ends every link, here and at the other side."""
        for link in tuple(self._links.values()):
            with suppress(StoreUnavailable):
                link.close_now()

    def end_links(self) -> None:
        """Ends every link on this side, when messages may have been lost."""
        for link in tuple(self._links.values()):
            link.end()

    # -- the asker

    async def forward(self, request: Request, owner: str) -> HTTPResponse | None:
        """
        Has the owner answer; None after a WebSocket. Raises StoreUnavailable.

        An owner that is gone, before or meanwhile, is an unknown session: the answer on which clients reconnect.
        """
        with self._forgetting(self._new_link(secrets.token_hex(8), owner)) as link:
            headers = _packed(request.headers.items())
            ask = Ask(link.id, self._worker_id, request.method, request.url, headers, request.body)
            if not await self._bus.publish(_topic(owner), encode(ask)):
                link.end()
            reply = await link.reply
            if isinstance(reply, Answer):
                return raw(reply.body, reply.status, dict(_unpacked(reply.headers)))
            if reply is None:
                return unknown_session()
            await pump(await connection_of(request).websocket_handshake(request), link)
            return None

    # -- the owner

    async def _answer(self, ask: Ask, link: Link) -> None:
        with self._forgetting(link):
            serving = asyncio.create_task(self._served(ask, link))
            either: list[asyncio.Future[Any]] = [serving, link.reply]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if link.accepted:
                    await asyncio.wait([serving])  # it ends with its frames
            finally:
                serving.cancel()  # of a client that left: its poll ends, and with it the session
            if serving.done() and not link.accepted and not link.ended:
                with suppress(StoreUnavailable):
                    link.answer(_answer(ask, serving.result()))

    async def _served(self, ask: Ask, link: Link) -> HTTPResponse:
        try:
            request = RelayedRequest(ask.method, ask.url, _unpacked(ask.headers), ask.body, link)
            response: HTTPResponse = await self._serve(request)
        except Exception as problem:  # noqa: BLE001 - the library lets out whatever a client's nonsense leads to
            log.info("a relayed session broke off: %r", problem)
            return bad_request()
        return response

    # -- both

    def _new_link(self, link_id: str, peer: str) -> Link:
        topic = _topic(peer)
        link = Link(link_id, peer, lambda message: self._bus.post(topic, encode(message)))
        self._links[link_id] = link
        self._heard[peer] = asyncio.get_running_loop().time()
        return link

    @contextmanager
    def _forgetting(self, link: Link) -> Iterator[Link]:
        try:
            yield link
        finally:
            del self._links[link.id]
            with suppress(StoreUnavailable):
                link.close_now()

    def _receive(self, data: bytes) -> None:
        try:
            message = decode(data)
        except msgspec.DecodeError:
            log.warning("a message that no worker of this release can have sent was dropped")
            return
        if isinstance(message, Beat):
            self._hear(message.sender)
        elif not isinstance(message, Ask):
            if (link := self._links.get(message.link)) is not None:
                self._hear(link.peer)
                link.receive(message)
        elif message.link not in self._links and len(self._links) < MOST_LINKS:
            link = self._new_link(message.link, message.asker)  # now: its end may be the next message
            self._start(self._answer(message, link))

    def _hear(self, peer: str) -> None:
        if peer in self._heard:
            self._heard[peer] = asyncio.get_running_loop().time()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            peers = {link.peer for link in self._links.values()}
            self._heard = {peer: at for peer, at in self._heard.items() if peer in peers}
            for peer in peers:
                await self._look_after(peer)

    async def _look_after(self, peer: str) -> None:
        try:
            there = await self._bus.publish(_topic(peer), encode(Beat(self._worker_id)))
        except StoreUnavailable:
            self.end_links()
            return
        silent_s = asyncio.get_running_loop().time() - self._heard.get(peer, math.inf)
        if not there or silent_s > SILENT_S:
            for link in [link for link in self._links.values() if link.peer == peer]:
                link.end()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _topic(worker_id: str) -> str:
    return redis_keys.to_worker(worker_id, PURPOSE)


def _answer(ask: Ask, response: HTTPResponse) -> Answer:
    headers = [*response.headers.items(), ("content-type", response.content_type or "text/plain")]
    return Answer(ask.link, response.status, _packed(headers), response.body or b"")


def _packed(headers: Iterable[tuple[str, str]]) -> Headers:
    """As bytes: Sanic keeps what is not UTF-8 as surrogates, which no encoder takes."""
    return [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers]


def _unpacked(headers: Headers) -> Header:
    return Header([(name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in headers])
