"""What an operator, or a test, can say about settling."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Fees are wei for one gas."""

    interval_s: float  # a user is settled when what he owes is this old,
    exposure_tokens: int  # or half as many tokens as may be unsettled
    confirmations: int  # blocks upon a transaction's own, after which the chain will not take it back
    max_fee: int
    in_flight: int = 16  # open transactions: nodes keep no more of one account
    patience_s: float = 20.0  # how long a transaction may wait before it offers a higher fee
    block_s: float = 3.0  # about how long a block takes
    reconcile_s: float = 3600.0  # how often the ledger is compared with the chain
    replay_s: float = 15.0  # how far back a worker repeats its commits when Redis lost them

    @property
    def enough_tokens(self) -> int:
        """Outstanding tokens from which on a user is settled at once."""
        return max(1, self.exposure_tokens // 2)
