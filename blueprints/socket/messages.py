"""What workers tell each other about sessions over the bus: MessagePack of these, and nothing else is read."""

from __future__ import annotations

import msgspec

Headers = list[tuple[bytes, bytes]]


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """To the owner: a client's request for one of its sessions. `asker` is the worker that holds the connection."""

    link: str
    asker: str
    method: str
    url: str
    headers: Headers
    body: bytes


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """To the asker: the whole response."""

    link: str
    status: int
    headers: Headers
    body: bytes


class Accept(msgspec.Struct, frozen=True, tag="accept"):
    """To the asker: the request becomes a WebSocket; frames follow in both directions."""

    link: str


class Frame(msgspec.Struct, frozen=True, tag="frame"):
    """One text message of the WebSocket, numbered from 0 in each direction. No binary ones: this door takes none."""

    link: str
    number: int
    data: str


class Taken(msgspec.Struct, frozen=True, tag="taken"):
    """The other side took so many frames in all: it has room for more."""

    link: str
    count: int


class End(msgspec.Struct, frozen=True, tag="end"):
    """This side is done: the client left, or the session ended."""

    link: str


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """A worker that shares links with the receiver lives."""

    sender: str


OfLink = Answer | Accept | Frame | Taken | End
Message = Ask | OfLink | Beat

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """For the bus."""
    return _encoder.encode(message)


def decode(data: bytes) -> Message:
    """From the bus. Raises msgspec.DecodeError."""
    return _decoder.decode(data)
