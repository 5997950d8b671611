"""The account of what was served: each request ends counted, or handed back, and only once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from core import redis_keys
from core.access.grant import Grant
from core.billing.late_commits import LateCommits
from core.errors import StoreUnavailable
from core.inference.completion import Usage
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
    when the operator changes his mind. All methods raise StoreUnavailable when Redis is away.
    """

    def __init__(self, store: Store, *, per_node_wallet: bool = False) -> None:
        self._store = store
        self._per_node_wallet = per_node_wallet
        self._late = LateCommits(store)

    async def commit(
        self, grant: Grant, usage: Usage, node: Node, latency_ms: int, answer: KeptAnswer | None = None
    ) -> None:
        """
        Counts an answer, also one whose lease has ended meanwhile; from here on it can't be handed back.

        No more is counted than the grant allows: a node's absurd figure would overflow the totals for ever. When it
        raises StoreUnavailable, it is counted later.
        """
        account = (node.address or redis_keys.NOBODY) if self._per_node_wallet else redis_keys.OWN
        keys = [
            redis_keys.usage(grant.request_id),
            redis_keys.OPEN_REQUESTS,
            redis_keys.ACCOUNTS,
            redis_keys.TOTALS,
            redis_keys.node_totals(node.url),
            redis_keys.account(account),
        ]
        kept: tuple[str | int, ...] = ()
        if answer is not None:
            keys.append(answer.key)
            kept = (answer.value, answer.ttl_s)
        prompt_tokens = _within(usage.prompt_tokens, grant.model.context_length)
        completion_tokens = _within(usage.completion_tokens, grant.max_tokens)
        args = (_member(grant), MARK_TTL_S, account, prompt_tokens, completion_tokens, latency_ms, *kept)
        try:
            await self._store.run("commit", keys, args)
        except StoreUnavailable:
            self._late.add(keys, args)
            raise

    async def delivered(self, grant: Grant) -> None:
        """A stream's first piece leaves: from here on the request can't be handed back."""
        await self._store.run("delivered", [redis_keys.OPEN_REQUESTS], [_member(grant)])

    async def hand_back(self, grant: Grant) -> None:
        """The request does not count, provided that nothing was delivered."""
        keys = [redis_keys.OPEN_REQUESTS, redis_keys.quota(grant.caller.subject)]
        await self._store.run("hand_back", keys, [_member(grant), grant.request_id])

    async def aclose(self) -> None:
        """Counts what still waits for Redis, if it is back."""
        await self._late.aclose()

    async def totals(self) -> Totals:
        """What the whole fleet served."""
        return await self._read(redis_keys.TOTALS)

    async def node_totals(self, url: str) -> Totals:
        """What one node served; zeros for a stranger."""
        return await self._read(redis_keys.node_totals(url))

    async def _read(self, key: str) -> Totals:
        counted = await self._store.hash(key)
        return Totals(
            answers=int(counted.get("answers", 0)),
            prompt_tokens=int(counted.get("prompt_tokens", 0)),
            completion_tokens=int(counted.get("completion_tokens", 0)),
        )


def _member(grant: Grant) -> str:
    return redis_keys.open_request(grant.caller.subject, grant.request_id)


def _within(tokens: int, most: int) -> int:
    return max(0, min(tokens, most))
