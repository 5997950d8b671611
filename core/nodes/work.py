"""What is asked of a node and what comes back, independent of the node's protocol."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from core.inference.completion import FinishReason
from core.inference.requests import Message
from core.nodes.node import Node

Offer = Callable[[list[str]], bool]  # takes pieces of text without waiting; or none of them, and says False


def refuse(_: list[str]) -> bool:
    """An offer that nobody takes."""
    return False


class Work(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One piece of inference; lengths are in tokens."""

    model: str  # the catalogue's id
    messages: tuple[Message, ...] | None  # a chat, for nodes that take messages
    prompt: str  # the templated text: for nodes that take `inputs`, and for all when there are no messages
    max_tokens: int
    temperature: float
    top_p: float
    stop: tuple[str, ...]  # the user's stop sequences, for nodes that know them
    inputs_stop: tuple[str, ...]  # what to cut at in the text of nodes that know none: the user's, and role markers


class NodeAnswer(msgspec.Struct, frozen=True, gc=False):
    """A finished answer. The figures are the node's own word: count what was delivered, too."""

    node: Node
    text: str  # "" for a stream: its pieces have left already
    finish_reason: FinishReason | None  # None while a stream is running
    tokens: int | None  # of the answer; None when the node tells none
    prompt_tokens: int | None
    pieces: int  # token events with text that came in; 1 for an answer in one piece
