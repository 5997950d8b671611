"""Server-sent events, framed by byte search as they come in (WHATWG HTML, 9.2; lines end with LF or CRLF)."""

from __future__ import annotations

from core.nodes.transport.failures import NodeBroken

MAX_LINE = 64 * 1024  # bytes of one line, and of the data of one event


class EventFraming:
    """
    Cuts a stream of bytes into the data of its events.

    Bytes may be cut anywhere: what belongs to an unfinished line is kept, so no character is ever split. Comments
    and fields other than `data` say nothing to us. An event that the stream's end cuts off is dropped.
    """

    __slots__ = ("_data", "_is_between", "_rest", "_size")

    def __init__(self) -> None:
        self._rest = bytearray()  # of a line
        self._data: list[bytes] = []  # lines of an event
        self._size = 0
        self._is_between = True  # events: nothing is unfinished

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that this chunk completes. Raises NodeBroken when a line or event is too long."""
        if self._is_between and _is_one_event(chunk):
            return [chunk[6:-2]]
        if self._rest:
            chunk = self._joined(chunk)
        lines = chunk.split(b"\n")
        self._keep(lines.pop())
        events: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._add(line[6:] if line[5:6] == b" " else line[5:])
            elif not line or line == b"\r":
                self._finish(events)
            elif line.rstrip(b"\r") == b"data":
                self._add(b"")
        self._is_between = not (self._rest or self._data)
        return events

    def _joined(self, chunk: bytes) -> bytes:
        # Only a chunk that ends the line makes a copy of it: a long line in small segments must not cost its square.
        if b"\n" not in chunk:
            return chunk
        whole = bytes(self._rest) + chunk
        self._rest.clear()
        return whole

    def _keep(self, rest: bytes) -> None:
        self._rest += rest
        if len(self._rest) > MAX_LINE:
            raise NodeBroken("a line of its stream is too long")

    def _add(self, value: bytes) -> None:
        value = value.removesuffix(b"\r")
        self._data.append(value)
        self._size += len(value) + 1
        if self._size > MAX_LINE:
            raise NodeBroken("an event of its stream is too long")

    def _finish(self, events: list[bytes]) -> None:
        if self._data:
            events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
            self._data, self._size = [], 0


def _is_one_event(chunk: bytes) -> bool:
    """Whether it is just one event of one line, as nearly all are while tokens come one by one."""
    return (
        chunk[:6] == b"data: "
        and chunk[-2:] == b"\n\n"
        and chunk.find(b"\n") == len(chunk) - 2
        and b"\r" not in chunk
        and len(chunk) <= MAX_LINE
    )
