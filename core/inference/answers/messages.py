"""What workers say to each other about an answer that one makes and the other one's client hears."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from core.errors import GatewayError
from core.inference.answers.answer import AnswerEnd


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """`link` is 128 random bits that the asker chose: one conversation. `sender` is a worker's id."""

    link: bytes
    sender: str


class Resume(Message, frozen=True):
    """To all: whose answer is this? The asker's client is to hear it from behind `after_seq`."""

    subject: str
    name: str
    after_seq: int


class Stop(Message, frozen=True):
    """To all: whose answer is this? It is to be stopped."""

    subject: str
    name: str


class Found(Message, frozen=True):
    """To the asker: it is mine."""


class Pieces(Message, frozen=True):
    """To the asker: text; the next message waits for its Place."""

    first_seq: int
    pieces: list[str]


class Ended(Message, frozen=True):
    """To the asker: the answer is complete."""

    seq: int
    end: AnswerEnd


class Failed(Message, frozen=True):
    """To the asker: the answer failed, or moved."""

    seq: int
    kind: str  # the error's class
    message: str | list[str]
    details: dict[str, Any] | None
    headers: dict[str, str]


class Beat(Message, frozen=True):
    """To the asker: I am still here."""


class Place(Message, frozen=True):
    """To the owner: I am still here; what arrived last, and what the client has taken last."""

    arrived: int
    taken: int


class Leave(Message, frozen=True):
    """To the owner: the client is gone."""


class Cancel(Message, frozen=True):
    """To the owner: the client wants no more of it."""


Known = Resume | Stop | Found | Pieces | Ended | Failed | Beat | Place | Leave | Cancel
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Known).decode


def failed(link: bytes, sender: str, seq: int, error: GatewayError) -> Failed:
    """An error on its way."""
    details = None if error.details is None else dict(error.details)
    return Failed(link, sender, seq, type(error).__name__, error.message, details, error.headers)


def error_of(failure: Failed) -> GatewayError:
    """The error at its destination; one of an unknown kind is a plain one."""
    kind = next((kind for kind in _kinds(GatewayError) if kind.__name__ == failure.kind), GatewayError)
    error = kind.__new__(kind)
    GatewayError.__init__(error, failure.message, details=failure.details, headers=failure.headers)
    return error


def _kinds(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _kinds(below)
