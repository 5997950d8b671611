"""
One connection to Redis for all that a process asks: commands go out in their order and are answered in it.

What is asked in one turn of the event loop goes out at its end as one write: a system call costs more than a command.

A pool would make each request fetch a connection, wait for it alone and give it back; that costs a web worker
several times as much as the command itself. Redis works through all connections one command at a time anyway.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url

from core.unreachable import why

HOST, PORT = "localhost", 6379
NOTHING = object()
NO_ANSWER = "no answer in time"

# Behind it, Redis repeats what it was sent, such as a password; or it tells the place in a script.
REPEATED = re.compile(", with args| script: [0-9a-f]{40}")

Argument = str | bytes | int

log = logging.getLogger(__name__)


class LinkFailed(Exception):
    """No answer came, or none in time: the command may have run or not. The text says why, and no secret."""


class Refused(Exception):
    """Redis answers that it does not do this; the text is its own, without what it repeats of the command."""

    @property
    def kind(self) -> str:
        """Redis' word for it, such as OOM, READONLY or NOPERM."""
        return str(self).partition(" ")[0]


class RedisLink:
    """
    Connects when the first command comes, and again after a loss; never repeats a command.

    A caller that is cancelled while it waits leaves its answer to nobody: no other caller can get it. The log tells
    once why it can't connect, for each reason, and when it can again.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._options: dict[str, Any] = dict(parse_url(url))
        self._is_secure = self._options.get("connection_class") is SSLConnection
        self._timeout_s = timeout_s
        self._line: _Line | None = None
        self._connecting: asyncio.Task[_Line] | None = None
        self._told: set[str] = set()  # why it does not connect

    async def call(self, command: Sequence[Argument]) -> Any:
        """
        The reply: str (what is no UTF-8 in it is replaced), int, None, or a list of these.

        Raises LinkFailed when it does not come within `timeout_s`, connecting included, and Refused.
        """
        packed = _packed(command)
        line = self._line
        if line is not None and line.is_open:
            reply = await line.ask(packed)
        else:
            reply = await self._ask_anew(packed)
        if isinstance(reply, hiredis.ReplyError):
            raise Refused(_said(reply))
        return reply

    async def aclose(self) -> None:
        """Whoever still waits gets LinkFailed."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._line is not None:
            self._line.close()
            await self._line.closed.wait()

    async def _ask_anew(self, packed: bytes) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._connecting is None:
                    self._connecting = asyncio.create_task(self._connect())
                    self._connecting.add_done_callback(self._connected)
                # Who gives up waiting must not end it for the others.
                line = await asyncio.shield(self._connecting)
                return await line.ask(packed)
        except OSError as problem:  # and TimeoutError, which is one
            raise LinkFailed(self._reason(problem)) from problem

    def _connected(self, task: asyncio.Task[_Line]) -> None:
        self._connecting = None
        if task.cancelled():
            return
        if problem := task.exception():
            self._tell(self._reason(problem))
            return
        self._line = task.result()
        if self._told:
            log.info("REDIS_URL: Redis answers again")
            self._told.clear()

    def _tell(self, reason: str) -> None:
        if reason not in self._told:
            log.warning("REDIS_URL: %s", reason)
            self._told.add(reason)

    def _reason(self, problem: BaseException) -> str:
        if isinstance(problem, LinkFailed):
            return str(problem)
        if isinstance(problem, TimeoutError):  # a Redis without TLS waits for the end of what it takes for a command
            return f"{NO_ANSWER}, over TLS" if self._is_secure else NO_ANSWER
        return f"no connection ({why(problem)})"

    async def _connect(self) -> _Line:
        line = _Line(self._timeout_s)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._open(line)
                await self._introduce(line)
        except BaseException:
            line.close()
            raise
        return line

    async def _open(self, line: _Line) -> None:
        loop, options = asyncio.get_running_loop(), self._options
        if "path" in options:
            await loop.create_unix_connection(lambda: line, options["path"])
            return
        host, port = options.get("host", HOST), options.get("port", PORT)
        await loop.create_connection(lambda: line, host, port, ssl=tls_context(options) if self._is_secure else None)

    async def _introduce(self, line: _Line) -> None:
        """No command goes out before Redis has answered: one that hangs would do it later, for nobody."""
        user, password, database = (self._options.get(name) for name in ("username", "password", "db"))
        commands: list[tuple[Argument, ...]] = []
        if password is not None:
            commands.append(("AUTH", user, password) if user else ("AUTH", password))
        if database:
            commands.append(("SELECT", database))
        commands.append(("PING",))
        for command in commands:
            reply = await line.ask(_packed(command))
            if isinstance(reply, hiredis.ReplyError):
                said = _said(reply)
                raise LinkFailed(f"Redis refuses: {said.replace(password, '***') if password else said}")


class _Line(asyncio.Protocol):
    """An open connection, and who waits for its next replies."""

    def __init__(self, timeout_s: float) -> None:
        self.closed = asyncio.Event()
        self.is_open = False
        self._lost = "the connection is lost"
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._replies = hiredis.Reader(encoding="utf-8", errors="replace", notEnoughData=NOTHING)
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None

    def ask(self, packed: bytes) -> asyncio.Future[Any]:
        """Sends a command; its reply, which may be a ReplyError. Raises LinkFailed in place of one."""
        future = self._loop.create_future()
        if not self.is_open or self._transport is None:
            future.set_exception(LinkFailed(self._lost))
            return future
        self._waiting.append((future, self._loop.time() + self._timeout_s))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(packed)
        return future

    def close(self) -> None:
        """At once: what waits in the buffer may not go out."""
        self.is_open = False
        if self._transport is None:
            self.closed.set()
        else:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not NOTHING:
                future, _ = self._waiting.popleft()
                if not future.done():
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError):  # IndexError: it answers what nobody asked
            self._lost = "it does not answer as Redis does"
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        if self._watch is not None:
            self._watch.cancel()
        while self._waiting:
            future, _deadline = self._waiting.popleft()
            if not future.done():
                future.set_exception(LinkFailed(self._lost))
        self.closed.set()

    def _send(self) -> None:
        packed, self._unsent = b"".join(self._unsent), []
        if self.is_open and self._transport is not None:
            self._transport.write(packed)

    def _look(self) -> None:
        """One timer for all: replies come in order, so the first that waits is the first to be late."""
        self._watch = None
        if not self._waiting:
            return
        left_s = self._waiting[0][1] - self._loop.time()
        if left_s <= 0:
            self._lost = NO_ANSWER
            self.close()
        else:
            self._watch = self._loop.call_later(left_s, self._look)


def tls_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """As the URL's options say (ssl_cert_reqs, ssl_ca_certs, ...): redis-py knows them all."""
    given = {name: value for name, value in options.items() if name != "connection_class"}
    return SSLConnection(**given).ssl_context.get()


def _said(reply: hiredis.ReplyError) -> str:
    return REPEATED.split(str(reply))[0]


def _packed(command: Sequence[Argument]) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type] # its stub means any number of them
    return packed
