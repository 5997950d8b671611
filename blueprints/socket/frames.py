"""Events as bytes: Socket.IO packets in JSON, and the WebSocket frames that carry them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

PATH = "/ws/inference"
# Engine.IO's "message" and Socket.IO's "event", then the namespace. Engine.IO adds its digit itself when it queues.
_EVENT = b"2" + PATH.encode() + b","
_MESSAGE = b"4"
_encode = msgspec.json.encode


def event(name: str, data: Any) -> bytes:
    """One event with one argument, as a Socket.IO packet."""
    return _EVENT + _encode([name, data])


class ChunkEvents:
    """The `inference_chunk` events of one answer. All but the text and the number is the same, so it is made once."""

    __slots__ = ("_head", "_tail")

    def __init__(self, request_id: str | None) -> None:
        self._head = _EVENT + b'["inference_chunk",{"data":'
        self._tail = b"}]" if request_id is None else b',"request_id":' + _encode(request_id) + b"}]"

    def __call__(self, first_seq: int, pieces: Sequence[str]) -> list[bytes]:
        """A packet for each piece; the first one has the number `first_seq`."""
        head, tail = self._head, self._tail
        return [b'%b%b,"seq":%d%b' % (head, _encode(piece), seq, tail) for seq, piece in enumerate(pieces, first_seq)]


def frames(packets: Sequence[bytes]) -> bytes:
    """Each packet as a WebSocket text frame of Engine.IO (RFC 6455 5.2: final, unmasked, from server to client)."""
    if len(packets) == 1:
        return _frame_head(len(packets[0]) + 1) + _MESSAGE + packets[0]
    return b"".join([_frame_head(len(packet) + 1) + _MESSAGE + packet for packet in packets])


def _frame_head(size: int) -> bytes:
    if size < 126:
        return bytes((0x81, size))
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")
