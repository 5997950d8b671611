"""Whether the contract lets this key debit at all."""

from __future__ import annotations

from core.chain.payment_contract import PaymentContract
from core.clock import Clock

LOOK_S = 60.0
WRONG_GATEWAY = "wrong gateway"


class Permission:
    """What stands against all settling, looked at once a minute."""

    def __init__(self, contract: PaymentContract, address: str, clock: Clock) -> None:
        self._contract = contract
        self._address = address
        self._clock = clock
        self._refusal: str | None = None
        self._until = float("-inf")

    async def refusal(self) -> str | None:
        """Why nothing may be settled now; None when it may. Raises ChainUnavailable."""
        if self._clock.monotonic() >= self._until:
            gateway = await self._contract.gateway()
            self._set(None if gateway == self._address else WRONG_GATEWAY)
        return self._refusal

    def refuse(self, objection: str) -> str | None:
        """Takes note of what the contract said; the refusal, if that was about everybody and not about one user."""
        if "only gateway" in objection:
            self._set(WRONG_GATEWAY)
        elif "treasury" in objection:
            self._set("stopped: the treasury does not take the money")
        else:
            return None
        return self._refusal

    def _set(self, refusal: str | None) -> None:
        self._refusal, self._until = refusal, self._clock.monotonic() + LOOK_S
