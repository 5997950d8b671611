"""The account of what was served: each request ends counted, or handed back, and only once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from core import redis_keys
from core.access.grant import Grant
from core.billing.charges import Charges, Served, charging, paid, void
from core.billing.commit import Commit
from core.billing.commits import Commits
from core.inference.completion import Paid, Usage
from core.nodes.node import Node
from core.store import Store

MARK_TTL_S = 24 * 3600  # how long a repeated commit is recognised


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer that is kept for whom asks again, in the same step in which it is counted."""

    key: str
    value: str
    ttl_s: int


class Totals(TypedDict):
    """What was served since ever."""

    answers: int
    prompt_tokens: int
    completion_tokens: int


class Ledger:
    """
    Takes note of how granted requests end; every note is idempotent and one Redis round trip.

    What is to be reported to the Oracle stands in accounts of its own: an answer is in the account of the gateway's
    wallet or, `per_node_wallet`, in that of its node's wallet, and so it is reported under one wallet at most, also
    when the operator changes his mind. All methods raise StoreUnavailable when Redis is away. `charges` is needed
    for grants that are paid.
    """

    def __init__(
        self,
        store: Store,
        *,
        per_node_wallet: bool = False,
        charges: Charges | None = None,
        commits: Commits | None = None,
    ) -> None:
        self._store = store
        self._per_node_wallet = per_node_wallet
        self._charges = charges
        self._commits = commits or Commits(store)

    async def commit(
        self, grant: Grant, usage: Usage, node: Node, latency_ms: int, answer: KeptAnswer | None = None
    ) -> Paid | None:
        """
        Counts an answer, also one whose lease has ended meanwhile; from here on it can't be handed back. What the
        caller pays for it, if he does.

        No more is counted than the grant allows: a node's absurd figure would overflow the totals for ever. When it
        raises StoreUnavailable, it is counted later.
        """
        served = Served(_within(grant, usage), node, self._account(node), latency_ms)
        counting = _counting if grant.charge is None else _charging
        commit = counting(grant, served)
        if answer is not None:
            commit.keys.append(answer.key)
            commit.args.extend((answer.value, answer.ttl_s))
        reply = await self._commits.run(commit)
        return None if grant.charge is None else paid(grant.charge, reply[0], reply[1])

    async def delivered(self, grant: Grant) -> None:
        """A free answer's first piece leaves: from here on the request can't be handed back."""
        await self._store.run("delivered", [redis_keys.OPEN_REQUESTS], [_member(grant)])

    async def checkpoint(self, grant: Grant, usage: Usage, node: Node) -> None:
        """So much of a paid answer has left, or is about to."""
        if self._charges is not None:
            await self._charges.checkpoint(grant, _within(grant, usage), node, self._account(node))

    async def hand_back(self, grant: Grant) -> None:
        """The request neither counts nor costs anything, provided that nothing was delivered."""
        if grant.charge is None:
            keys = [redis_keys.OPEN_REQUESTS, redis_keys.quota(grant.caller.subject)]
            await self._store.run("hand_back", keys, [_member(grant), grant.request_id])
        else:
            await void(self._store, grant.caller.subject, grant.request_id)

    def start(self) -> None:
        """Counts what workers that are gone have left."""
        self._commits.start()

    async def aclose(self) -> None:
        """Counts what still waits for Redis, if it is back."""
        await self._commits.aclose()

    async def totals(self) -> Totals:
        """What the whole fleet served."""
        return await self._read(redis_keys.TOTALS)

    async def node_totals(self, url: str) -> Totals:
        """What one node served; zeros for a stranger."""
        return await self._read(redis_keys.node_totals(url))

    def _account(self, node: Node) -> str:
        return (node.address or redis_keys.NOBODY) if self._per_node_wallet else redis_keys.OWN

    async def _read(self, key: str) -> Totals:
        counted = await self._store.hash(key)
        return Totals(
            answers=int(counted.get("answers", 0)),
            prompt_tokens=int(counted.get("prompt_tokens", 0)),
            completion_tokens=int(counted.get("completion_tokens", 0)),
        )


def _counting(grant: Grant, served: Served) -> Commit:
    """The call that counts a free answer."""
    keys = [
        redis_keys.usage(grant.request_id),
        redis_keys.OPEN_REQUESTS,
        redis_keys.ACCOUNTS,
        redis_keys.TOTALS,
        redis_keys.node_totals(served.node.url),
        redis_keys.account(served.account),
    ]
    args: list[str | int] = [
        _member(grant), MARK_TTL_S, served.account, served.usage.prompt_tokens, served.usage.completion_tokens,
        served.latency_ms,
    ]  # fmt: skip
    return Commit("commit", keys, args)


def _charging(grant: Grant, served: Served) -> Commit:
    price = 0 if grant.charge is None else grant.charge.price
    return charging(grant.caller.subject, grant.request_id, grant.model.id, price, served)


def _member(grant: Grant) -> str:
    return redis_keys.open_request(grant.caller.subject, grant.request_id)


def _within(grant: Grant, usage: Usage) -> Usage:
    prompt = max(0, min(usage.prompt_tokens, grant.model.context_length))
    completion = max(0, min(usage.completion_tokens, grant.max_tokens))
    return Usage(prompt, completion, prompt + completion)
