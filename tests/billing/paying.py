"""Paid requests as the tests of the ledger make them: a token costs one wei."""

from __future__ import annotations

from typing import cast

import redis

from core import redis_keys
from core.access.grant import Grant
from core.auth.caller import Caller
from core.billing.charges import Charges, Price, Request
from core.billing.ledger import Ledger
from core.catalog import Tier
from core.inference.completion import Usage
from core.nodes.node import Node
from core.store import Store
from tests.access.gates import ADA, CATALOG

RICH = 10**9  # tokens that a deposit pays
LEASE_S = 360
LATENCY_MS = 250
NODE = Node("http://10.0.0.5:31331", "0x" + "c" * 40)


def charges_over(store: Store, *, most_unsettled: int = RICH, lease_s: int = LEASE_S) -> Charges:
    """Charges in that store; a lease of 0 s makes its worker as good as dead."""
    return Charges(store, most_unsettled=most_unsettled, lease_s=lease_s)


def ledger_over(store: Store, *, lease_s: int = LEASE_S) -> Ledger:
    """The ledger in that store."""
    return Ledger(store, charges=charges_over(store, lease_s=lease_s))


def usage(prompt: int, completion: int) -> Usage:
    """What an answer took."""
    return Usage(prompt, completion, prompt + completion)


async def reserve(
    charges: Charges, request_id: str, tokens: int = 100, *, deposit: int = RICH, caller: Caller = ADA
) -> Grant:
    """A request that was let in. Raises what the reservation raises."""
    request = Request(request_id, caller.subject, caller.token_id, "small", tokens)
    charge = await charges.reserve(request, Price(1000, deposit))
    return Grant(request_id, caller, Tier.PRO, CATALOG.require("small"), tokens, None, charge)


class Books:
    """What stands in Redis, read behind the ledger's back."""

    def __init__(self, redis_url: str) -> None:
        self.redis = redis.Redis.from_url(redis_url, decode_responses=True)

    def credit(self, user: str = ADA.subject) -> dict[str, int]:
        """The numbers of a user; a missing one is 0."""
        found = cast("dict[str, str]", self.redis.hgetall(redis_keys.credit(user)))
        return {name: int(found.get(name, 0)) for name in ("cum", "settled", "inflight", "reserved", "debt")}

    def charge(self, request_id: str) -> dict[str, str]:
        """The fields of a charge."""
        return cast("dict[str, str]", self.redis.hgetall(redis_keys.charge(request_id)))

    def answers(self) -> dict[str, str]:
        """The totals of the fleet."""
        return cast("dict[str, str]", self.redis.hgetall(redis_keys.TOTALS))

    def lease_end(self, request_id: str, user: str = ADA.subject) -> float | None:
        """Unix ms; None when the request is not under way."""
        member = redis_keys.open_request(user, request_id)
        return self.redis.zscore(redis_keys.RESERVATIONS, member)

    def settle(self, tokens: int, user: str = ADA.subject) -> None:
        """So many of the user's tokens are paid on the chain."""
        self.redis.hincrby(redis_keys.credit(user), "settled", tokens)
