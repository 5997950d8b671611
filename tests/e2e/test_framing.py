"""Nothing that follows a request of two meanings is served as a request, and no trace of one is left in the log."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.e2e.client import TIMEOUT_S, Answer
from tests.e2e.server import GatewayServer
from tests.e2e.test_errors import assert_refused

HOST = b"Host: h\r\n"
JSON = b"Content-Type: application/json\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"
LENGTH = b"%d\r\n\r\n" % len(HIDDEN)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
WEBSOCKET = HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
DOORS = ["/api/v1/auth/nonce", "/v1/chat/completions"]
RESTS = {
    "a space before the colon": HOST + b"Content-Length : " + LENGTH,
    "a tab before the colon": HOST + b"Content-Length\t: " + LENGTH,
    "NUL before the colon": HOST + b"Content-Length\0: " + LENGTH,
    "a bare LF": HOST + b"X: a\nContent-Length: " + LENGTH,
    "a bare CR": HOST + b"X: a\rContent-Length: " + LENGTH,
    "a folded line": HOST + b"X: a\r\n Content-Length: " + LENGTH,
    "a length in Arabic": HOST + "Content-Length: ٠\r\n\r\n".encode(),
    "a length with a sign": HOST + b"Content-Length: +5\r\n\r\n",
    "two lengths": HOST + b"Content-Length: 0\r\nContent-Length: " + LENGTH,
    "a length and a coding": HOST + b"Content-Length: 0\r\n" + CHUNKED,
    "a coding that is not known": HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a vertical tab before the coding": HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "no host": b"\r\n",
    "two hosts": HOST + HOST + b"\r\n",
    "no host's name": b"Host: \xff[[\r\n\r\n",
    "NUL in a value": HOST + b"X: a\0b\r\n\r\n",
    "a control character in a value": HOST + b"X: a\x1bb\r\n\r\n",
}
CHUNKS = {
    "a hexadecimal zero": b"0x0\r\n\r\n",
    "no CRLF after its data": b"2\r\n{}XX0\r\n\r\n",
    "LF in its extension": b"2;\nxx\r\n{}\r\n0\r\n\r\n",
}
FIRST_LINES = [
    (b"G\xff /health HTTP/1.1\r\n", "/"),
    (b"GET /hea\0lth HTTP/1.1\r\n", "/"),
    (b"GET http://[::1/v1/models HTTP/1.1\r\n", "/"),
    (b"G\xff /v1/models HTTP/1.1\r\n", "/v1/models"),
    (b"GET /health HTTP/1.1 \r\n", "/"),
]
HANDSHAKES = [b"Sec-WebSocket-Key: \xff\r\n", KEY + b"Sec-WebSocket-Extensions: \xff;;\r\n"]
HANDSHAKES += [KEY + b"Sec-WebSocket-Protocol: \xff,,\r\n", KEY + b"Connection: \xff\r\n"]


def only_answer(gateway: GatewayServer, sent: bytes) -> Answer:
    """The one answer of a connection that the gateway closes."""
    heard = b""
    with socket.create_connection(("127.0.0.1", gateway.port), TIMEOUT_S) as connection:
        connection.sendall(sent)
        with suppress(ConnectionResetError):
            while piece := connection.recv(65_536):
                heard += piece
    assert heard.count(b"HTTP/1.1 ") == 1, heard
    head, _, body = heard.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert headers["connection"] == "close"
    return Answer(int(status.split(" ")[1]), headers, body)


@pytest.fixture(autouse=True)
def silent(gateway: GatewayServer) -> Iterator[None]:
    """Nonsense of a client is no fault of the gateway's: its log tells of none."""
    before = len(gateway.log())
    yield
    log = gateway.log()[before:]
    assert "Traceback" not in log
    assert " ERROR " not in log


class TestARequest:
    @pytest.mark.parametrize("name", RESTS)
    @pytest.mark.parametrize("path", DOORS)
    def test_of_two_meanings_is_the_last_of_its_connection(self, gateway: GatewayServer, path: str, name: str) -> None:
        sent = b"POST %b HTTP/1.1\r\n" % path.encode() + JSON + RESTS[name] + HIDDEN

        assert_refused(only_answer(gateway, sent), 400, path)

    @pytest.mark.parametrize("name", CHUNKS)
    def test_whose_chunk_has_two_meanings_is_the_last_one_too(self, gateway: GatewayServer, name: str) -> None:
        sent = b"POST %b HTTP/1.1\r\n" % DOORS[0].encode() + HOST + JSON + CHUNKED + CHUNKS[name] + HIDDEN

        assert_refused(only_answer(gateway, sent), 400, DOORS[0])

    def test_of_http_1_0_comes_in_no_chunks(self, gateway: GatewayServer) -> None:
        sent = b"POST %b HTTP/1.0\r\nConnection: keep-alive\r\n" % DOORS[0].encode() + CHUNKED + b"0\r\n\r\n" + HIDDEN

        assert_refused(only_answer(gateway, sent), 400, DOORS[0])

    @pytest.mark.parametrize(("line", "door"), FIRST_LINES)
    def test_whose_first_line_can_not_be_read_is_refused(self, gateway: GatewayServer, line: bytes, door: str) -> None:
        assert_refused(only_answer(gateway, line + HOST + b"\r\n" + HIDDEN), 400, door)

    @pytest.mark.parametrize("headers", HANDSHAKES)
    def test_for_a_websocket_whose_headers_are_no_ascii_is_refused(
        self, gateway: GatewayServer, headers: bytes
    ) -> None:
        sent = b"GET /ws/agent-relay HTTP/1.1\r\n" + WEBSOCKET + headers + b"\r\n"

        assert_refused(only_answer(gateway, sent), 400, "/ws/agent-relay")


@pytest.mark.long
@pytest.mark.parametrize("rest", [b"X: ", b"Content-Length: 99\r\n\r\n", CHUNKED], ids=["head", "body", "chunks"])
def test_one_that_does_not_arrive_in_time_is_refused(gateway: GatewayServer, rest: bytes) -> None:
    sent = b"POST %b HTTP/1.1\r\n" % DOORS[0].encode() + HOST + JSON + rest

    assert_refused(only_answer(gateway, sent), 408, DOORS[0])
