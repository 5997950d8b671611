"""Where Pro callers go: what the request may take is held out of their deposit."""

from __future__ import annotations

from core.access.grant import Charge
from core.access.tiers import Standings
from core.auth.caller import Caller
from core.billing.charges import Charges, Price, Request
from core.billing.price_list import PriceList
from core.catalog import Model
from core.errors import ChainUnavailable
from core.inference.requests import InferenceRequest
from core.metrics.meter import prompt_tokens


class PayDesk:
    """Holds tokens for requests, by the deposit and the price that are known now."""

    def __init__(self, standings: Standings, prices: PriceList, charges: Charges) -> None:
        self._standings = standings
        self._prices = prices
        self._charges = charges

    async def reserve(
        self, request_id: str, caller: Caller, request: InferenceRequest, model: Model, max_tokens: int
    ) -> Charge:
        """
        Holds the prompt and `max_tokens`, in one round trip to Redis.

        Raises InsufficientCredit, TooMuchUnsettled, Unauthenticated (the token was revoked), StoreUnavailable, or
        ChainUnavailable when deposit or price were never known: nobody is served for nothing.
        """
        standing = await self._standings.standing_of(caller)
        if standing.credit is None:
            raise ChainUnavailable
        price = Price((await self._prices.terms()).cost_per_1000_tokens, standing.credit.balance)
        most = prompt_tokens(request, model.context_length) + max_tokens
        return await self._charges.reserve(Request(request_id, caller.subject, caller.token_id, model.id, most), price)
