"""What the payment contract asks for, remembered for a minute."""

from __future__ import annotations

from core.chain.payment_contract import PaymentContract, Terms
from core.clock import Clock
from core.errors import ChainUnavailable

KEEP_S = 60.0


class PriceList:
    """The terms of one contract. While the chain is away the last ones hold."""

    def __init__(self, contract: PaymentContract, clock: Clock) -> None:
        self._contract = contract
        self._clock = clock
        self._terms: Terms | None = None
        self._until = 0.0

    async def terms(self) -> Terms:
        """Price and minimum. Raises ChainUnavailable before they were ever read."""
        if self._terms is None or self._clock.monotonic() >= self._until:
            try:
                self._terms = await self._contract.terms()
                self._until = self._clock.monotonic() + KEEP_S
            except ChainUnavailable:
                if self._terms is None:
                    raise
        return self._terms
