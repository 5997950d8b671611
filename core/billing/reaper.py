"""What becomes of requests whose worker was killed."""

from __future__ import annotations

from core import redis_keys
from core.billing.charges import Served, charging, void
from core.inference.completion import Usage
from core.nodes.node import Node
from core.store import Store

BATCH = 100  # requests a round trip: Redis serves nobody else meanwhile


class Reaper:
    """
    Ends what is still open after its lease; any number of reapers may run at once.

    A free request is handed back. A paid one costs what had left by its last checkpoint, or nothing.
    """

    def __init__(self, store: Store, batch: int = BATCH) -> None:
        self._store = store
        self._batch = batch

    async def reap(self) -> int:
        """How many requests were ended. Raises StoreUnavailable; what was done by then stays done."""
        return await self._hand_back() + await self._charge()

    async def _hand_back(self) -> int:
        keys, args = (redis_keys.OPEN_REQUESTS,), (redis_keys.quota(""), self._batch)
        total = 0
        while True:
            reaped: int = await self._store.run("reap", keys, args)
            total += reaped
            if reaped < self._batch:
                return total

    async def _charge(self) -> int:
        keys, args = (redis_keys.RESERVATIONS,), (redis_keys.charge(""), self._batch)
        total = 0
        while overdue := await self._store.run("overdue", keys, args):
            for member, state, *noted in overdue:
                if state == "reserved":
                    await self._end(member, noted)
            total += len(overdue)
        return total

    async def _end(self, member: str, noted: list[str]) -> None:
        user, _, request_id = member.partition(" ")
        completion, prompt, wallet, url, account, price, model = noted
        if int(completion or 0) == 0:
            await void(self._store, user, request_id)
            return
        usage = Usage(int(prompt), int(completion), int(prompt) + int(completion))
        served = Served(usage, Node(url, wallet), account, 0)
        commit = charging(user, request_id, model, int(price), served)
        await self._store.run(commit.script, commit.keys, commit.args)
