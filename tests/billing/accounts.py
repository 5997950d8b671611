"""The accounts of paying users, written by hand as ledger and settler write them."""

from __future__ import annotations

import json
from typing import Any

import redis

from core import redis_keys

PRICE = 10**15  # wei for 1000 tokens
AT = 1_800_000_000_123  # unix ms
LIFE_S = 30 * 24 * 3600


class Accounts:
    """What users were charged and what of it is settled."""

    def __init__(self, redis_url: str) -> None:
        self.redis = redis.Redis.from_url(redis_url, decode_responses=True)

    def charge(self, user: str, request_id: str, prompt: int, completion: int, **other: Any) -> None:
        """A committed answer."""
        tokens = prompt + completion
        cum = self.redis.hincrby(redis_keys.credit(user), "cum", tokens)
        fields: dict[str, Any] = {
            "user": user, "state": "committed", "reserved": 0, "tokens": tokens, "price": PRICE, "model": "a/model",
            "node": "", "prompt_tokens": prompt, "completion_tokens": completion, "at": AT, "cum": cum,
        }  # fmt: skip
        self.redis.hset(redis_keys.charge(request_id), mapping=fields | other)
        self.redis.expire(redis_keys.charge(request_id), LIFE_S)
        self.redis.zadd(redis_keys.charges(user), {request_id: cum})

    def settle(self, user: str, tokens: int, tx: str, **other: Any) -> None:
        """A final transaction for so many of his tokens."""
        to_cum = self.redis.hincrby(redis_keys.credit(user), "settled", tokens)
        settlement = {
            "tx": tx, "block": 7, "tokens": tokens, "from_cum": to_cum - tokens, "to_cum": to_cum,
            "cost_wei": str(tokens * PRICE // 1000), "at": AT + 60_000,
        }  # fmt: skip
        self.redis.zadd(redis_keys.settlements(user), {json.dumps(settlement | other): to_cum})


def request_id(number: int) -> str:
    """The id of a request."""
    return f"req_1800000000000_{number:016x}"


def tx(number: int) -> str:
    """The hash of a transaction."""
    return f"0x{number:064x}"
