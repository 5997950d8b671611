"""A connection's requests: the chunks of their bodies, the time that they may take to arrive, and what follows them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from socket import create_server
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from hypothesis import example, given
from hypothesis import strategies as st
from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import BadRequest, PayloadTooLarge
from sanic.response import text

from blueprints.errors import register_errors
from blueprints.request_reader import CHUNK_LINE_MAX, RequestReader
from blueprints.socket.connection import SessionConnection

LIMIT_S = 20.0  # nothing here takes so long, unless it never ends
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
UNREAD = CHUNKED.replace(b"/echo", b"/unread")
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
BAD_CHUNKS = {
    "no size": b"\r\n",
    "a hexadecimal mark": b"0x2\r\n{}\r\n0\r\n\r\n",
    "a hexadecimal zero": b"0x0\r\n\r\n",
    "a sign": b"+2\r\n{}\r\n0\r\n\r\n",
    "a minus sign": b"-2\r\n{}\r\n0\r\n\r\n",
    "an underscore": b"0_2\r\n{}\r\n0\r\n\r\n",
    "a space before": b" 2\r\n{}\r\n0\r\n\r\n",
    "a space after": b"2 \r\n{}\r\n0\r\n\r\n",
    "a digit of another script": "٢\r\n{}\r\n0\r\n\r\n".encode(),
    "too many digits": b"0" * 17 + b"\r\n\r\n",
    "no CRLF after the data": b"2\r\n{}XX0\r\n\r\n",
    "LF after the data": b"2\r\n{}\n0\r\n\r\n",
    "LF after the size": b"2\n{}\r\n0\r\n\r\n",
    "LF in an extension": b"2;\nxx\r\n{}\r\n0\r\n\r\n",
    "CR in an extension": b"2;\rxx\r\n{}\r\n0\r\n\r\n",
    "NUL in an extension": b"2;\0\r\n{}\r\n0\r\n\r\n",
    "a long extension": b"2;" + b"a" * CHUNK_LINE_MAX + b"\r\n{}\r\n0\r\n\r\n",
    "a line that never ends": b"2;" + b"a" * CHUNK_LINE_MAX,
    "a trailer": b"2\r\n{}\r\n0\r\nX: y\r\n\r\n",
}


async def echo(request: Request) -> HTTPResponse:
    """What arrived, once all of it has."""
    return text(request.body.decode())


async def unread(_: Request) -> HTTPResponse:
    """An answer that does not wait for the body."""
    return text("unread", 403)


async def next_one(_: Request) -> HTTPResponse:
    """What only a second request gets."""
    return text("the next one")


async def slow(_: Request) -> HTTPResponse:
    """An answer that takes longer than Sanic's clock takes to tick."""
    await asyncio.sleep(0.3)
    return text("slow")


@pytest.fixture
def app() -> Sanic:
    """An application of these four."""
    Sanic.test_mode = True
    app = Sanic(f"reader-{uuid4().hex}", configure_logging=False)
    app.config.AUTO_EXTEND = False
    app.add_route(echo, "/echo", methods=["POST"])
    app.add_route(unread, "/unread", methods=["POST"], stream=True)
    app.add_route(next_one, "/next")
    app.add_route(slow, "/slow")
    register_errors(app)
    return app


@pytest_asyncio.fixture
async def port(app: Sanic) -> AsyncIterator[int]:
    """A server of it, whose requests are read as the gateway's are."""
    listener = create_server(("127.0.0.1", 0))
    server: Any = await app.create_server(
        sock=listener, return_asyncio_server=True, protocol=SessionConnection, access_log=False
    )
    await server.startup()
    await server.start_serving()
    yield listener.getsockname()[1]
    server.close()
    for connection in list(server.connections):
        connection.abort()
    await server.wait_closed()


class Wire:
    """A client's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.over = asyncio.create_task(self._read())
        self.heard = b""

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await self._reader.read(65_536):
                self.heard += piece

    def send(self, data: bytes) -> None:
        """Writes, if anybody listens still."""
        if not self._writer.transport.is_closing():
            self._writer.write(data)

    async def hears(self, mark: bytes, times: int = 1) -> None:
        """Waits until this was answered so many times."""
        async with asyncio.timeout(LIMIT_S):
            while self.heard.count(mark) < times:
                assert not self.over.done(), self.heard
                await asyncio.sleep(0.005)

    async def to_the_end(self) -> bytes:
        """All that was answered when the server has hung up."""
        async with asyncio.timeout(LIMIT_S):
            await self.over
        return self.heard

    async def trickles(self, drop: bytes) -> bytes:
        """Sends this again and again until the server hangs up; all that was answered."""
        async with asyncio.timeout(LIMIT_S):
            while not self.over.done():
                self.send(drop)
                await asyncio.sleep(0.01)
        return self.heard


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    wire = Wire(reader, writer)
    try:
        yield wire
    finally:
        wire.over.cancel()
        writer.close()


async def answers(port: int, *pieces: bytes) -> bytes:
    """All that a connection gets for these pieces, the next of which leaves when the former was taken."""
    async with connected(port) as wire:
        for piece in pieces:
            wire.send(piece)
            await asyncio.sleep(0)
        return await wire.to_the_end()


@pytest.mark.asyncio
class TestChunks:
    @pytest.mark.parametrize("name", BAD_CHUNKS)
    @pytest.mark.parametrize("head", [CHUNKED, UNREAD], ids=["read", "unread"])
    async def test_that_can_be_read_in_two_ways_end_the_connection(self, port: int, head: bytes, name: str) -> None:
        heard = await answers(port, head + BAD_CHUNKS[name] + NEXT)

        assert heard.startswith(b"HTTP/1.1 400 " if head is CHUNKED else b"HTTP/1.1 403 ")
        assert heard.count(b"HTTP/1.1 ") == 1

    async def test_are_put_together_however_they_arrive(self, port: int) -> None:
        body = b"5;a=b\r\nhello\r\n0001 ; c\r\n \r\nA\r\n0123456789\r\n000;end\r\n\r\n"

        for cut in range(len(body) + 1):
            heard = await answers(port, CHUNKED + body[:cut], body[cut:] + NEXT)
            assert heard.count(b"HTTP/1.1 200 ") == 2
            assert b"\r\n\r\nhello 0123456789HTTP/1.1" in heard
        heard = await answers(port, *(bytes([byte]) for byte in CHUNKED + body + NEXT))
        assert b"\r\n\r\nhello 0123456789HTTP/1.1" in heard

    async def test_are_asked_for_when_the_client_waits_for_that(self, port: int) -> None:
        async with connected(port) as wire:
            wire.send(POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
            await wire.hears(b"HTTP/1.1 100 Continue\r\n\r\n")
            wire.send(b"2\r\n{}\r\n0\r\n\r\n" + NEXT)
            assert b"\r\n\r\n{}HTTP/1.1" in await wire.to_the_end()

    async def test_over_the_limit_are_refused(self, port: int) -> None:
        assert (await answers(port, CHUNKED + b"f" * 16 + b"\r\n")).startswith(b"HTTP/1.1 413 ")


@pytest.mark.asyncio
class TestTime:
    """The slow and the steady ones: a drop each hundredth of a second."""

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(RequestReader, "HEAD_S", 0.5)
        monkeypatch.setattr(RequestReader, "BODY_S", 0.5)

    @pytest.mark.parametrize(
        ("begin", "drop"),
        [
            (b"POST /echo HTTP/1.1\r\nHost: x\r\nX: ", b"a"),
            (POST + b"Content-Length: 9999\r\n\r\n", b"a"),
            (CHUNKED, b"1\r\na\r\n"),
            (CHUNKED + b"1;", b" "),
            (CHUNKED + b"0\r\n", b""),
            (b"P", b""),
        ],
        ids=["head", "body", "chunks", "chunk line", "last chunk", "nothing more"],
    )
    async def test_ends_for_a_request_that_trickles(self, port: int, begin: bytes, drop: bytes) -> None:
        async with connected(port) as wire:
            wire.send(begin)
            head, _, body = (await wire.trickles(drop)).partition(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in head
        assert json.loads(body) == {
            "message": "The request did not arrive in time",
            "error": "Request Timeout",
            "statusCode": 408,
        }

    async def test_ends_for_a_body_that_nobody_waits_for(self, port: int, caplog: pytest.LogCaptureFixture) -> None:
        async with connected(port) as wire:
            wire.send(UNREAD)
            heard = await wire.trickles(b"1\r\na\r\n")

        assert heard.count(b"HTTP/1.1 ") == heard.count(b"HTTP/1.1 403 ") == 1
        assert not [record for record in caplog.records if record.levelname == "ERROR"]

    async def test_goes_on_for_a_body_that_comes_in_steadily(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(RequestReader, "RATE", 1)
        pieces = round(3 * RequestReader.BODY_S / 0.01)
        async with connected(port) as wire:
            wire.send(POST + b"Content-Length: %d\r\n\r\n" % (10 * pieces))
            for _ in range(pieces):
                wire.send(b"0123456789")
                await asyncio.sleep(0.01)
            wire.send(NEXT)
            assert (await wire.to_the_end()).count(b"HTTP/1.1 200 ") == 2

    async def test_begins_with_each_request_anew(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(RequestReader, "HEAD_S", 1.0)
        monkeypatch.setattr(RequestReader, "BODY_S", 1.0)
        async with connected(port) as wire:
            for answered in (1, 2):
                await asyncio.sleep(1.2)  # between two requests there is no hurry
                for piece in (POST, b"Content-Length: 2\r\n\r\n{", b"}"):
                    wire.send(piece)
                    await asyncio.sleep(0.05)
                await wire.hears(b"\r\n\r\n{}", answered)
            assert wire.heard.count(b"HTTP/1.1 200 ") == 2

    async def test_between_two_requests_ends_also_after_one_that_asked_for_a_websocket(
        self, app: Sanic, port: int
    ) -> None:
        app.config.KEEP_ALIVE_TIMEOUT = 0.2
        async with connected(port) as wire:
            wire.send(b"GET /slow HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n")
            assert (await wire.to_the_end()).endswith(b"\r\n\r\nslow")


@pytest.mark.asyncio
class TestWhatFollows:
    async def test_is_answered_in_its_turn(self, port: int) -> None:
        one = POST + b"Content-Length: 2\r\n\r\n{}"

        heard = await answers(port, (one + CHUNKED + b"2\r\n[]\r\n0\r\n\r\n") * 10 + NEXT)

        assert heard.count(b"HTTP/1.1 200 ") == 21

    @pytest.mark.parametrize(
        "head",
        [
            POST + b"Content-Length : 9\r\n\r\n",
            POST + b"X: a\nContent-Length: 9\r\n\r\n",
            POST + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n",
            POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
            CHUNKED.replace(b"1.1", b"1.0"),
            b"OPTIONS" + POST[4:] + b"Host: x\r\n\r\n",
            b"POST http://[::1/x HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"P\xff / HTTP/1.1\r\nHost: x\r\n\r\n",
        ],
    )
    async def test_an_ambiguous_head_is_never_looked_at(
        self, port: int, head: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        heard = await answers(port, head + NEXT)

        assert heard.startswith(b"HTTP/1.1 400 ")
        assert heard.count(b"HTTP/1.1 ") == 1
        assert not [record for record in caplog.records if record.levelname == "ERROR"]


def pieces_of(body: bytes) -> list[bytes] | None:
    """The chunks of a body, read slowly; None when it is not well formed or not all there (RFC 9112, 7.1)."""
    pieces: list[bytes] = []
    while True:
        line, end, body = body.partition(b"\r\n")
        size, _, extension = line.partition(b";")
        digits = size.rstrip(b" \t") if b";" in line else size
        if not end or not digits or len(digits) > 16 or not set(digits) <= set(b"0123456789abcdefABCDEF"):
            return None
        if set(extension) & {*range(9), *range(10, 32), 127}:
            return None
        length = int(digits, 16)
        if not length:
            return pieces if body == b"\r\n" else None
        if body[length : length + 2] != b"\r\n":
            return None
        pieces.append(body[:length])
        body = body[length + 2 :]


class Fed:
    """As much of a connection as the reader of a body knows; what it waits for never comes."""

    def __init__(self, data: bytes) -> None:
        self.recv_buffer = bytearray(data)
        self.app = self
        self.request_max_size = 1 << 20

    async def dispatch(self, *_: Any, **__: Any) -> None: ...

    async def send(self, _: bytes) -> None: ...

    async def receive_more(self) -> None:
        raise EOFError


async def read_all(body: bytes) -> list[bytes] | None:
    """What the reader makes of a chunked body."""
    reader_of: Any = RequestReader
    reader = reader_of(Fed(b"\r\n" + body))
    reader.init_for_request()
    reader.request_body, reader.request_bytes, reader.request_bytes_left = "chunked", 0, 0
    pieces = []
    try:
        while (piece := await reader.read()) is not None:
            pieces.append(piece)
    except (BadRequest, PayloadTooLarge, EOFError):
        return None
    return pieces


lines = st.sampled_from([b"1", b"3", b"0", b"03", b"A", b"-1", b"0x3", b"3;", b"3 ;a=b", b"3 ", b"", b"3;\n", b"+3"])
ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"", b"\r\n\r\n"])
data = st.sampled_from([b"", b"a", b"abc", b"0123456789", b"\r\n\r"])
bodies = st.lists(st.tuples(lines, ends, data, ends).map(b"".join), max_size=4).map(b"".join)


@given(st.builds(lambda body, last: body + last, bodies, st.sampled_from([b"0\r\n\r\n", b"", b"0\r\nX: y\r\n\r\n"])))
@example(b"3\r\nabc\r\nA;x\r\n0123456789\r\n0\r\n\r\n")
@example(b"0\r\n\r\n")
def test_chunks_are_those_of_a_slow_reader(body: bytes) -> None:
    found = asyncio.run(read_all(body))
    expected = pieces_of(body)
    if expected is not None or found is None:
        assert found == expected
    else:  # the slow reader wants the body to be all; here a next request may follow
        end = max(at for at in range(len(body) + 1) if pieces_of(body[:at]) is not None)
        assert found == pieces_of(body[:end])
