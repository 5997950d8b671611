"""The window of Free requests: one Redis round trip, and the headers that tell of it."""

from __future__ import annotations

from core import redis_keys
from core.access.grant import Quota
from core.auth.caller import Caller
from core.catalog import Tier
from core.clock import iso
from core.errors import RateLimited, Unauthenticated
from core.store import Store

UNCOUNTED = 0  # admit.lua's limit for requests that need no room in the window


class RateLimiter:
    """
    Lets at most `limit` Free requests of an address into any `window_s` seconds, however many workers ask at once.

    What was let in is open for `lease_s`. Unless the ledger is told of it until then (the worker was killed, the
    caller left in the middle of `enter`, Redis' reply was lost) the reaper hands it back.
    """

    def __init__(self, store: Store, *, limit: int, window_s: int, lease_s: int) -> None:
        self._store = store
        self._limit = limit
        self._window_s = window_s
        self._lease_s = lease_s

    async def enter(self, request_id: str, caller: Caller, tier: Tier) -> Quota | None:
        """
        The caller's quota with this request in it, or None for Pro; the same request id is counted once.

        Raises RateLimited, Unauthenticated (the token was revoked) or StoreUnavailable (Redis is away: nobody is let
        in unlimited).
        """
        keys = [
            redis_keys.revoked(caller.token_id or ""),  # no token is named "", so nobody revokes the operator's key
            redis_keys.quota(caller.subject),
            redis_keys.OPEN_REQUESTS,
        ]
        limit = self._limit if tier is Tier.FREE else UNCOUNTED
        member = redis_keys.open_request(caller.subject, request_id)
        args = (request_id, member, limit, self._window_s * 1000, self._lease_s * 1000)
        verdict, used, reset_at_ms, now_ms = await self._store.run("admit", keys, args)
        if verdict == "revoked":
            raise Unauthenticated
        if limit == UNCOUNTED:
            return None
        reset_after_s = -((now_ms - reset_at_ms) // 1000)  # rounded up
        quota = Quota(limit, used, self._window_s, reset_at_ms, reset_after_s)
        if verdict == "over":
            raise _rate_limited(quota)
        return quota


def quota_headers(quota: Quota | None) -> dict[str, str]:
    """
    What clients are told of their quota, in both usual spellings; nothing when there is no quota.

    RateLimit and RateLimit-Policy are those of draft-ietf-httpapi-ratelimit-headers, x-ratelimit-* are OpenAI's.
    """
    if quota is None:
        return {}
    return {
        "RateLimit-Policy": f'"{Tier.FREE}";q={quota.limit};w={quota.window_s}',
        "RateLimit": f'"{Tier.FREE}";r={quota.remaining};t={quota.reset_after_s}',
        "x-ratelimit-limit-requests": str(quota.limit),
        "x-ratelimit-remaining-requests": str(quota.remaining),
        "x-ratelimit-reset-requests": _duration(quota.reset_after_s),
    }


def _rate_limited(quota: Quota) -> RateLimited:
    return RateLimited(
        "Rate limit exceeded",
        details={"used": quota.used, "limit": quota.limit, "resetAt": iso(quota.reset_at_ms / 1000)},
        headers={"Retry-After": str(quota.reset_after_s)} | quota_headers(quota),
    )


def _duration(seconds: int) -> str:
    """Go's short form, which OpenAI uses: 1h0m0s, 29m12s, 5s."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
