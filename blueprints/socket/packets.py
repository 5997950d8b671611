"""Socket.IO's packets as they are taken from clients: text only, and nothing that a handler could trip over."""

from __future__ import annotations

from typing import Any

from socketio.packet import ACK, CONNECT, DISCONNECT, EVENT, Packet

RESERVED = ("connect", "connect_error", "disconnect", "disconnecting")  # the protocol's own, no client may send them


class TextPacket(Packet):  # type: ignore[misc] # it carries no types
    """
    Raises ValueError for what this service never asks for.

    The library would wait for a binary packet's attachments, and keep them, without a limit.
    """

    uses_binary_events = False

    def decode(self, encoded_packet: str) -> int:
        """Reads a packet. None has attachments, so the result is 0."""
        if not isinstance(encoded_packet, str) or encoded_packet[:1] not in _TAKEN:
            raise ValueError("a packet of a type that is not taken")
        attachments = super().decode(encoded_packet)
        if attachments or not _is_sound(self.packet_type, self.data):
            raise ValueError("a packet that makes no sense")
        return 0


_TAKEN = tuple(map(str, (CONNECT, DISCONNECT, EVENT, ACK)))


def _is_sound(kind: int, data: Any) -> bool:
    if kind == EVENT:
        return isinstance(data, list) and bool(data) and isinstance(data[0], str) and data[0] not in RESERVED
    if kind == ACK:
        return isinstance(data, list)
    return data is None or isinstance(data, dict)
