"""What stands in for the settler where there is no key to sign with."""

from __future__ import annotations

from core.settlement.accounts import Accounts
from core.settlement.rules import Rules
from core.settlement.status import StatusBoard
from core.store import Store

NO_KEY = "stopped: GATEWAY_PRIVATE_KEY is not set"


class Keyless:
    """Says so, and how much is outstanding: users are served until they reach what may be unsettled."""

    def __init__(self, store: Store, rules: Rules) -> None:
        self._accounts = Accounts(store)
        self._rules = rules
        self._status = StatusBoard(store, "")

    async def tick(self) -> None:
        """One turn. Raises StoreUnavailable."""
        await self._status.tell(NO_KEY, await self._accounts.standing(self._rules))
