"""What a client gets: the answer's text, why it ended, what it took."""

from __future__ import annotations

from typing import Literal

import msgspec

from core.access.grant import Grant
from core.chain.amounts import plm

FinishReason = Literal["stop", "length"]


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of one answer; of a paid one also its price, and what is left of the deposit once all is paid."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    # Exact decimals: wei neither fit into the messages between workers nor are exact in JavaScript.
    cost_plm: str | None = None
    balance_plm: str | None = None

    def priced(self, cost: int, left: int | None = None) -> Usage:
        """The same with its price and what is left, both in wei."""
        balance_plm = None if left is None else plm(left)
        return msgspec.structs.replace(self, cost_plm=plm(cost), balance_plm=balance_plm)


class Paid(msgspec.Struct, frozen=True, gc=False):
    """What an answer was charged, in wei."""

    cost: int
    left: int  # of the deposit, once all that was used is paid


class Completion(msgspec.Struct, frozen=True, gc=False):
    """A finished answer. `text` is empty for a stream: its pieces have left already."""

    grant: Grant
    created: int  # unix seconds
    text: str
    finish_reason: FinishReason
    usage: Usage
    paid: Paid | None = None  # None when it was free, and when nobody could be asked what is left
    is_replay: bool = False  # an answer of before, given again

    @property
    def told_usage(self) -> Usage:
        """The usage as clients are told it: of a paid answer with its price."""
        return told(self.usage, self.paid)


def told(usage: Usage, paid: Paid | None) -> Usage:
    """A usage as clients are told it."""
    return usage if paid is None else usage.priced(paid.cost, paid.left)
