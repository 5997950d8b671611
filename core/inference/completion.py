"""What a client gets: the answer's text, why it ended, what it took."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

STOP, LENGTH = "stop", "length"


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer. `text` is empty for a stream: its pieces have left already."""

    request_id: str
    created: int  # unix seconds
    model: str
    text: str
    finish_reason: str  # STOP or LENGTH
    usage: Usage
