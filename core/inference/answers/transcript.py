"""What an answer has said so far, within bounds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from core.errors import GatewayError, UnknownAnswer
from core.inference.answers.answer import AnswerEnd

POINTER = 8  # bytes of a list's entry

Grow = Callable[[int], bool]


class Transcript:
    """
    The pieces of one answer, numbered from 1 on, and its outcome, which has the number after the last piece.

    It holds at most about `most` bytes, and no more than its worker has room for: then the oldest pieces go.
    `grow` is told how many bytes came (or went), and says whether there was room for them.
    """

    __slots__ = ("_forgotten", "_grow", "_most", "_name", "_pieces", "_size", "outcome")

    def __init__(self, name: str, most: int, grow: Grow) -> None:
        self.outcome: AnswerEnd | GatewayError | None = None
        self._name = name
        self._most = most
        self._grow = grow
        self._pieces: list[str] = []
        self._forgotten = 0  # pieces
        self._size = 0  # bytes

    @property
    def last(self) -> int:
        """The number of the last piece; 0 before the first."""
        return self._forgotten + len(self._pieces)

    def add(self, pieces: Sequence[str]) -> None:
        """Appends; these pieces are kept in any case."""
        size = _size_of(pieces)
        self._pieces += pieces
        self._size += size
        has_room = self._grow(size)
        if not has_room or self._size > self._most:
            self._forget(len(self._pieces) - len(pieces), self._most if has_room else 0)

    def after(self, seq: int, most: int) -> list[str]:
        """Up to `most` pieces behind the number. Raises UnknownAnswer for a place that is not kept, or never was."""
        start = seq - self._forgotten
        if start < 0 or seq > self.last + (self.outcome is not None):
            raise UnknownAnswer(self._name)
        return self._pieces[start : start + most]

    def clear(self) -> None:
        """Gives its room back."""
        self._forget(len(self._pieces), 0)

    def _forget(self, at_most: int, most: int) -> None:
        """Drops up to so many of the oldest pieces, until what is left takes no more than `most` bytes."""
        count = freed = 0
        while count < at_most and self._size - freed > most:
            freed += _size_of(self._pieces[count : count + 1])
            count += 1
        if count:
            del self._pieces[:count]
            self._forgotten += count
            self._size -= freed
            self._grow(-freed)


def _size_of(pieces: Sequence[str]) -> int:
    """Bytes of memory."""
    return sum(map(sys.getsizeof, pieces)) + POINTER * len(pieces)
