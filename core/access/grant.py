"""What the gate gives to those whom it lets through."""

from __future__ import annotations

import msgspec

from core.auth.caller import Caller
from core.catalog import Model, Tier
from core.chain.amounts import cost


class Quota(msgspec.Struct, frozen=True, gc=False):
    """The state of a rolling window right after a request was counted (or refused)."""

    limit: int  # requests a window
    used: int
    window_s: int
    reset_at_ms: int  # unix ms at which the oldest counted request leaves the window
    reset_after_s: int  # the same as whole seconds from now, rounded up: no clock of the client is involved

    @property
    def remaining(self) -> int:
        """How many more requests the window holds."""
        return max(0, self.limit - self.used)


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What a paid request costs at most, and out of what. The answer itself is paid when it is committed."""

    price: int  # wei for 1000 tokens
    balance: int  # wei deposited, at the last look at the contract
    reserved: int  # tokens
    settled: int = 0  # tokens of the caller that were paid on the chain by then

    def cost(self, tokens: int) -> int:
        """Wei."""
        return cost(tokens, self.price)


class Grant(msgspec.Struct, frozen=True, gc=False):
    """A request that may be served: who, what, how much. Handlers only format it."""

    request_id: str  # "req_<unix ms>_<16 hex>"
    caller: Caller
    tier: Tier
    model: Model
    max_tokens: int
    quota: Quota | None  # None when nothing is counted (Pro)
    charge: Charge | None = None  # None for whom it is free: Free callers and the operator
