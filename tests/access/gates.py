"""A gate as the tests of admission and of the ledger set it up."""

from __future__ import annotations

from dataclasses import replace

from core.access.admission import Admission, Limits
from core.access.grant import Grant
from core.access.tiers import FreeForAll, TierResolver
from core.auth.caller import OPERATOR, Caller
from core.catalog import Catalog, Model, Tier
from core.clock import SystemClock
from core.inference.requests import InferenceRequest
from core.store import Store

ADA, BOB = Caller("0x" + "a" * 40, "jti-ada"), Caller("0x" + "b" * 40, "jti-bob")
THE_OPERATOR = Caller(OPERATOR)
LIMITS = Limits(free_requests=3, window_s=3600, free_max_tokens=2048, pro_max_tokens=4096)
KILLED = 0  # a lease that ends at once: its worker is as good as dead
ASKED = InferenceRequest(model="small", prompt="hi", max_tokens=8)


def model(model_id: str, tier: Tier = Tier.FREE, max_tokens: int = 4096, default_max_tokens: int = 512) -> Model:
    """A catalogue entry."""
    return Model(model_id, model_id, "", tier, max_tokens, 131_072, default_max_tokens)


CATALOG = Catalog([model("small"), model("big", Tier.PRO), model("terse", max_tokens=100)])


class Everyone:
    """A tier resolver that finds the same tier for all."""

    def __init__(self, tier: Tier) -> None:
        self._tier = tier

    async def tier_of(self, caller: Caller) -> Tier:
        return self._tier


def gate(store: Store, *, limits: Limits = LIMITS, tiers: TierResolver | None = None, lease_s: int = 360) -> Admission:
    """The gate over a store; wallets are Free unless `tiers` says otherwise."""
    return Admission(store, tiers or FreeForAll(), CATALOG, replace(limits, lease_s=lease_s), SystemClock())


async def used(store: Store, caller: Caller = ADA) -> int:
    """How many requests of the caller stand in his window; asking takes one more slot, in a wider window's name."""
    wide = Limits(free_requests=10_000, window_s=3600, free_max_tokens=2048, pro_max_tokens=4096)
    return quota_used(await gate(store, limits=wide).admit(caller, ASKED)) - 1


def quota_used(grant: Grant) -> int:
    """What a Free grant says of its quota."""
    assert grant.quota is not None
    return grant.quota.used
