"""The one gate of all doors: tier, model, max_tokens, and then the window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import getrandbits

from core.access.grant import Grant
from core.access.pay_desk import PayDesk
from core.access.rate_limit import RateLimiter
from core.access.tiers import TierResolver
from core.auth.caller import Caller
from core.catalog import Catalog, Model, Tier
from core.clock import Clock
from core.errors import ProModel, TooManyTokens
from core.inference.requests import InferenceRequest
from core.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What each tier may ask for."""

    free_requests: int  # a window
    window_s: int
    free_max_tokens: int  # of one answer
    pro_max_tokens: int
    lease_s: int = 360  # a served request takes less, at the very most: more than the nodes' total timeout

    def max_tokens(self, tier: Tier) -> int:
        """The longest answer of a tier."""
        return self.pro_max_tokens if tier is Tier.PRO else self.free_max_tokens


class Admission:
    """
    Decides whether a request may be served.

    `is_served` tells whether nodes serve a model now, which only the choice of the default model depends on. Without a
    `pay_desk` nobody pays.
    """

    def __init__(
        self,
        store: Store,
        tiers: TierResolver,
        catalog: Catalog,
        limits: Limits,
        clock: Clock,
        *,
        is_served: Callable[[str], bool] = bool,
        pay_desk: PayDesk | None = None,
    ) -> None:
        self._rate_limiter = RateLimiter(
            store, limit=limits.free_requests, window_s=limits.window_s, lease_s=limits.lease_s
        )
        self._tiers = tiers
        self._catalog = catalog
        self._limits = limits
        self._clock = clock
        self._is_served = is_served
        self._pay_desk = pay_desk

    async def admit(self, caller: Caller, request: InferenceRequest) -> Grant:
        """
        Admits the request; the ledger must be told how it ended.

        Raises UnknownModel, ProModel or TooManyTokens, which never count; then Unauthenticated (the token was
        revoked), RateLimited or StoreUnavailable; for paid requests also InsufficientCredit, TooMuchUnsettled or
        ChainUnavailable.
        """
        tier = await self._tiers.tier_of(caller)
        model = self._catalog.chosen(request.model, self._is_served)
        if model.tier is Tier.PRO and tier is not Tier.PRO:
            raise ProModel(model.id)
        max_tokens = self._max_tokens(request, tier, model)
        request_id = f"req_{int(self._clock.now() * 1000)}_{getrandbits(64):016x}"
        if tier is Tier.PRO and not caller.is_operator and self._pay_desk is not None:
            charge = await self._pay_desk.reserve(request_id, caller, request, model, max_tokens)
            return Grant(request_id, caller, tier, model, max_tokens, None, charge)
        quota = await self._rate_limiter.enter(request_id, caller, tier)
        return Grant(request_id, caller, tier, model, max_tokens, quota)

    def _max_tokens(self, request: InferenceRequest, tier: Tier, model: Model) -> int:
        limit = self._limits.max_tokens(tier)
        if request.max_tokens is None:
            return min(model.default_max_tokens, model.max_tokens, limit)
        if request.max_tokens > limit:
            raise TooManyTokens(f"max_tokens exceeds limit for {tier} tier ({limit})")
        if request.max_tokens > model.max_tokens:
            raise TooManyTokens(f"max_tokens exceeds limit for model {model.id} ({model.max_tokens})")
        return request.max_tokens
