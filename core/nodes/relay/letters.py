"""What workers tell each other about the agents' work, as MessagePack on the bus; checked on receipt."""

from __future__ import annotations

import logging
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Id = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Worker = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]{8}\Z")]
Reason = Literal["gone", "busy", "lost"]

log = logging.getLogger(__name__)


class Ask(msgspec.Struct, frozen=True, tag=True):
    """A request for an agent, to the worker that holds its socket."""

    id: Id
    connection: Id
    reply_to: Worker
    body: bytes  # JSON, as the agent gets it


class Forget(msgspec.Struct, frozen=True, tag=True):
    """Whoever asked does not wait any more."""

    id: Id


class Part(msgspec.Struct, frozen=True, tag=True):
    """A frame of the answer, to the worker that asked."""

    id: Id
    number: int  # counted from 0: a gap means that something was lost on the way
    kind: str
    frame: bytes


class Failed(msgspec.Struct, frozen=True, tag=True):
    """No more will come."""

    id: Id
    reason: Reason


Letter = Ask | Forget | Part | Failed
_decoder = msgspec.msgpack.Decoder(Letter)
encode = msgspec.msgpack.Encoder().encode


def decode(message: bytes) -> Letter | None:
    """A letter; None for what is none, since whoever reaches Redis can write to the bus."""
    try:
        letter: Letter = _decoder.decode(message)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        log.warning("a message about agents can't be read")
        return None
    return letter
