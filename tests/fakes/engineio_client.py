"""Engine.IO by hand, byte by byte over a TCP connection: for what no library does."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

TIMEOUT_S = 20
QUERY = "/socket.io/?EIO=4&transport="


@dataclass(frozen=True)
class Response:
    """A response with its whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """One TCP connection to a port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._host = f"127.0.0.1:{port}"

    def __del__(self) -> None:
        self.socket.close()

    def head(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> bytes:
        """A request's head, the empty line included."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return "\r\n".join([*lines, "", ""]).encode()

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Response:
        """Sends a request and reads the response."""
        length = {"Content-Length": str(len(body))} if body else {}
        self.socket.sendall(self.head(method, path, {**length, **(headers or {})}) + body)
        return self.response()

    def response(self, method: str = "GET") -> Response:
        """Reads the next response."""
        response = http.client.HTTPResponse(self.socket, method=method)
        response.fp = _Unbuffered(self.socket)  # type: ignore[assignment] # what follows belongs to the next one
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Response(response.status, headers, response.read())

    def open_session(self) -> str:
        """The id of a new polling session."""
        opened = self.ask("GET", QUERY + "polling")
        assert opened.status == 200, opened
        session_id: str = json.loads(opened.body[1:])["sid"]
        return session_id

    def upgrade(self, session_id: str = "") -> None:
        """Becomes a WebSocket, of a new session or of a polling one."""
        key = base64.b64encode(os.urandom(16)).decode()
        path = QUERY + "websocket" + (f"&sid={session_id}" if session_id else "")
        fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        self.socket.sendall(self.head("GET", path, {**fields, "Sec-WebSocket-Key": key}))
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, received
            received += byte
        assert received.startswith(b"HTTP/1.1 101"), received

    def send_text(self, text: str) -> None:
        """One masked text frame."""
        data, mask = text.encode(), os.urandom(4)
        if len(data) < 126:
            length = bytes([0x80 | len(data)])
        else:
            length = b"\xfe" + len(data).to_bytes(2) if len(data) < 65536 else b"\xff" + len(data).to_bytes(8)
        self.socket.sendall(b"\x81" + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))

    def receive_text(self) -> str:
        """The next text frame; an empty text at the WebSocket's end."""
        head = self._exactly(2)
        if len(head) < 2 or head[0] & 0x0F == 8:
            return ""
        length = head[1] if head[1] < 126 else int.from_bytes(self._exactly(2 if head[1] == 126 else 8))
        return self._exactly(length).decode()

    def reset(self) -> None:
        """Ends without a word, as a client does that loses its machine."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Ends at TCP's level only."""
        self.socket.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self.socket.recv(count - len(data))):
            data += more
        return data


class _Unbuffered:
    """A response's bytes, and none after them."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source

    def readline(self, limit: int = -1) -> bytes:
        line = b""
        while not line.endswith(b"\n") and (byte := self._source.recv(1)):
            line += byte
        return line

    def read(self, count: int = -1) -> bytes:
        data = b""
        while len(data) != count and (more := self._source.recv(min(65536, count - len(data)) if count > 0 else 65536)):
            data += more
        return data

    def readinto(self, buffer: memoryview) -> int:
        return self._source.recv_into(buffer)

    def flush(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """The connection lives on."""
