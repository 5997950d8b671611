"""Answers in pieces, as tests read them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from typing import Protocol

from core.errors import GatewayError
from core.nodes.transport.exchange import Take
from core.nodes.work import Offer, refuse


class Flowing(Protocol):
    """A stream of the nodes, of the service, or one that is given again."""

    async def flow(self, offer: Offer) -> list[str]: ...


class FlowingBytes(Protocol):
    """An exchange with a node."""

    async def flow(self, take: Take, until: float) -> None: ...


async def lists(stream: Flowing) -> AsyncIterator[list[str]]:
    """All that comes; by chance half of it is taken where it comes in, and half of it is not."""
    chance, came = Random(7), list[list[str]]()

    def offer(pieces: list[str]) -> bool:
        is_taken = chance.random() < 0.5
        if is_taken:
            came.append(pieces)
        return is_taken

    failure, is_over = None, False
    while not is_over:
        try:
            refused = await stream.flow(offer)
        except GatewayError as error:
            failure, refused = error, []
        for pieces in came:
            yield pieces
        came.clear()
        if refused:
            yield refused
        is_over = not refused
    if failure is not None:
        raise failure


async def following(stream: Flowing) -> list[str]:
    """What comes next; nothing at the end."""
    return await stream.flow(refuse)


async def following_bytes(exchange: FlowingBytes, until: float) -> bytes:
    """What comes next of a body, or has come; nothing at its end."""
    came = bytearray()

    def take(data: bytes) -> bool:
        came.extend(data)
        return False

    await exchange.flow(take, until)
    return bytes(came)
