"""What a gateway and an agent say to each other: JSON, one object a WebSocket text message."""

from __future__ import annotations

import msgspec

ENDS = ("response", "done", "error")  # the types of frames after which nothing more comes for a request
AUTH_OK = '{"type":"auth_ok"}'
PONG = '{"type":"pong"}'
_NO_BREAKS = bytes.maketrans(b"\r\n", b"  ")  # in JSON a raw line break is a blank between two tokens


class Frame(msgspec.Struct):
    """What every message of an agent has: its type, and the id of the request that it belongs to."""

    type: str
    id: str = ""


_decoder = msgspec.json.Decoder(Frame)


def read(message: str | bytes | None) -> Frame | None:
    """The head of an agent's message; None for what is none."""
    if not isinstance(message, str):
        return None
    try:
        return _decoder.decode(message)
    except (msgspec.DecodeError, RecursionError):
        return None


def auth_error(message: str) -> str:
    """Why an agent is not let in."""
    return msgspec.json.encode({"type": "auth_error", "message": message}).decode()


def request(request_id: str, body: bytes) -> str:
    """A request; `body` is a JSON object with all its other fields."""
    return f'{{"type":"request","id":"{request_id}",{body[1:].decode()}'


def event(frame: bytes) -> bytes:
    """A frame as a server-sent event."""
    return b"data: %b\n\n" % frame.translate(_NO_BREAKS)
