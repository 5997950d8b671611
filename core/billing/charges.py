"""Paid requests in Redis: held before they are served, noted while they leave, charged at their end."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from core import redis_keys
from core.access.grant import Charge, Grant
from core.billing.commit import CHARGE, Commit
from core.chain.amounts import affordable
from core.errors import InsufficientCredit, TooMuchUnsettled, Unauthenticated
from core.inference.completion import Paid, Usage
from core.nodes.node import Node
from core.steps import Step, unwatched
from core.store import Store

LIFE_S = 30 * 24 * 3600  # of a charge, from its end


class Request(msgspec.Struct, frozen=True, gc=False):
    """What is to be paid: whose it is, and how many tokens it may take."""

    request_id: str
    user: str  # lower-case address
    token_id: str | None
    model: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Price:
    """What the contract said of the user's deposit and its price, in wei."""

    per_1000_tokens: int
    balance: int

    @property
    def affordable(self) -> int:
        """Tokens that the deposit pays."""
        return affordable(self.balance, self.per_1000_tokens)


class Charges:
    """
    Each transition of a paid request is one script and one round trip; all methods raise StoreUnavailable.

    `most_unsettled`: tokens that a user may have used or asked for without a debit on the chain. `lease_s` is longer
    than any request is served.
    """

    def __init__(self, store: Store, *, most_unsettled: int, lease_s: int, at: Step = unwatched) -> None:
        self._store = store
        self._most_unsettled = most_unsettled
        self._lease_ms = lease_s * 1000
        self._at = at

    async def reserve(self, request: Request, price: Price) -> Charge:
        """
        Holds the tokens that the request may take; the same request is held once.

        Raises InsufficientCredit, TooMuchUnsettled, or Unauthenticated when the token was revoked.
        """
        keys = [
            redis_keys.revoked(request.token_id or ""),
            redis_keys.credit(request.user),
            redis_keys.charge(request.request_id),
            redis_keys.RESERVATIONS,
        ]
        member = redis_keys.open_request(request.user, request.request_id)
        args: list[str | int] = [
            member, request.user, request.tokens, price.affordable, self._most_unsettled, self._lease_ms,
            price.per_1000_tokens, request.model, LIFE_S,
        ]  # fmt: skip
        self._at("before_reserve")
        verdict, outstanding, reserved, settled = await self._store.run("reserve", keys, args)
        self._at("reserved")
        charge = Charge(price.per_1000_tokens, price.balance, request.tokens, settled)
        if verdict == "revoked":
            raise Unauthenticated
        if verdict == "short":
            available = max(0, price.balance - charge.cost(outstanding + reserved))
            raise InsufficientCredit(charge.cost(request.tokens), available)
        if verdict == "full":
            raise TooMuchUnsettled
        return charge

    async def checkpoint(self, grant: Grant, usage: Usage, node: Node, account: str) -> None:
        """Notes what has left by now: so much is charged if this worker is killed."""
        keys = [redis_keys.charge(grant.request_id), redis_keys.RESERVATIONS]
        args: list[str | int] = [
            _member(grant), usage.prompt_tokens, usage.completion_tokens, self._lease_ms, node.address or "",
            node.url, account,
        ]  # fmt: skip
        self._at("before_checkpoint")
        await self._store.run("checkpoint", keys, args)
        self._at("checkpointed")


async def void(store: Store, user: str, request_id: str) -> None:
    """Releases the reservation of a request of which nothing has left. Raises StoreUnavailable."""
    keys = [redis_keys.charge(request_id), redis_keys.credit(user), redis_keys.RESERVATIONS]
    await store.run("void", keys, [redis_keys.open_request(user, request_id)])


class Served(msgspec.Struct, frozen=True, gc=False):
    """An answer as it is counted."""

    usage: Usage
    node: Node
    account: str  # of the metrics
    latency_ms: int


def charging(user: str, request_id: str, model: str, price: int, served: Served) -> Commit:
    """The call that charges an answer."""
    node, usage = served.node, served.usage
    keys = [
        redis_keys.charge(request_id),
        redis_keys.credit(user),
        redis_keys.RESERVATIONS,
        redis_keys.OUTSTANDING,
        redis_keys.charges(user),
        redis_keys.ACCOUNTS,
        redis_keys.TOTALS,
        redis_keys.node_totals(node.url),
        redis_keys.account(served.account),
    ]
    args: list[str | int] = [
        "0", redis_keys.open_request(user, request_id), user, request_id, model, node.address or "", served.account,
        price, usage.prompt_tokens, usage.completion_tokens, served.latency_ms, LIFE_S,
    ]  # fmt: skip
    return Commit(CHARGE, keys, args)


def paid(charge: Charge, tokens: int, cum: int) -> Paid:
    """What the user is told of a charge, given his cumulated tokens right after it."""
    left = charge.balance - charge.cost(max(0, cum - charge.settled))
    return Paid(charge.cost(tokens), max(0, left))


def _member(grant: Grant) -> str:
    return redis_keys.open_request(grant.caller.subject, grant.request_id)
