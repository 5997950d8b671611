"""
Idempotency-Key: of all who ask with the same key one is served, and the others are given his answer again.

    nothing is known of the key    it is claimed, and the request is served
    its request is under way       409; for the life of the claim when the worker was killed
    its request was answered       the same answer, without a new count or charge
    it is another request's        422

An answer is kept by the very step that counts and charges it, so there is never one without the other. A request
that ends without a count frees its key.

A Redis that was away may have lost claims (they ended meanwhile) and answers (they wait to be counted; or it was
killed, and has forgotten its last second). So for a moment after each break nothing that Redis does not know is
taken for new: 503. Meanwhile all workers tell Redis again what they know.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import msgspec

from core import redis_keys
from core.auth.caller import Caller
from core.billing.commits import Commits
from core.bus import Bus
from core.ending import end
from core.errors import (
    GatewayError,
    IdempotencyConflict,
    IdempotencyMismatch,
    StoreUnavailable,
    Unauthenticated,
    Unavailable,
)
from core.inference.late_releases import LateReleases
from core.inference.recordings import KeyedRecorder, Recording
from core.store import Store

HOLD_S = 5.0  # in which all workers find Redis again (a second), and repeat thousands of commits (another one or two)
RENEW_S = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """How a client names a request of his, and what tells this request from others."""

    value: str  # visible ASCII characters
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Claim:
    """One caller's wish to be served under a key."""

    caller: Caller
    key: IdempotencyKey
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def kept_at(self) -> str:
        """Where the answer is kept."""
        return redis_keys.kept_answer(self.caller.subject, self.key.value)

    @property
    def claimed_at(self) -> str:
        """Where it is noted that the request is under way."""
        return redis_keys.claim(self.caller.subject, self.key.value)

    @property
    def release(self) -> tuple[str, tuple[str, str]]:
        """Key and arguments of the script that gives it up."""
        return self.claimed_at, (self.token, self.key.fingerprint)


def fingerprint(door: str, request: object) -> str:
    """The same for requests that mean the same, however their bytes were written; `request` is a parsed one."""
    return hashlib.sha256(f"{door} ".encode() + msgspec.json.encode(request)).hexdigest()


class IdempotencyKeys:
    """
    The keys in Redis, each its caller's own. `lease_s` is longer than any request is served; `commits` are those
    with which answers are kept.
    """

    def __init__(self, store: Store, commits: Commits, *, lease_s: int, hold_s: float = HOLD_S) -> None:
        self._store = store
        self._commits = commits
        self._lease_ms = lease_s * 1000
        self._hold_s = hold_s
        self._late = LateReleases(store)
        self._under_way: dict[str, Claim] = {}  # by their tokens
        self._complete_at = 0.0  # monotonic: from here on Redis knows all that any worker knows
        self._renewing: asyncio.Task[None] | None = None

    def follow(self, bus: Bus) -> None:
        """Has the bus tell when Redis is away."""
        bus.when_lost(self.suspend)
        bus.when_back(self.resume)

    def suspend(self) -> None:
        """Redis is away: what it will not know when it is back may be known here, or to another worker."""
        self._complete_at = math.inf

    def resume(self) -> None:
        """Redis is back: it is told the claims of what is under way, and others are given time to do the same."""
        self._complete_at = time.monotonic() + self._hold_s
        if self._under_way and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew())

    @asynccontextmanager
    async def opened(self, caller: Caller, key: IdempotencyKey) -> AsyncIterator[Recording | KeyedRecorder]:
        """
        The answer that is kept, else the recorder of the one that is to be made within the context.

        Raises IdempotencyConflict, IdempotencyMismatch, Unauthenticated (the token was revoked), StoreUnavailable, or
        Unavailable when Redis does not know the key, but may be about to be told of it.
        """
        claim = Claim(caller, key)
        try:
            recording = await self._kept(claim)
            if recording is None:
                self._ensure_new(claim)
        except (Unavailable, asyncio.CancelledError):
            self._late.add(*claim.release)  # Redis may have done what nobody heard of
            raise
        if recording is not None:
            yield recording
            return
        recorder = KeyedRecorder(claim.kept_at, key.fingerprint)
        self._under_way[claim.token] = claim
        try:
            yield recorder
        finally:
            del self._under_way[claim.token]
            if not recorder.has_ended:
                await asyncio.shield(self._release(claim))

    async def aclose(self) -> None:
        """Claims that still wait for Redis end by themselves."""
        if self._renewing is not None:
            await end([self._renewing])
        await self._late.aclose()

    def _ensure_new(self, claim: Claim) -> None:
        """
        Once it is claimed, since the break that has lost the key may have come just before. Raises Unavailable when
        Redis may not be told yet of the answer, or of another request under way.
        """
        left_s = self._complete_at - time.monotonic()
        if left_s > 0 or self._commits.waits(claim.kept_at):
            retry_after_s = math.ceil(min(max(left_s, 1), self._hold_s))
            raise Unavailable("The gateway's store was away. Please try again later.", retry_after_s=retry_after_s)

    async def _renew(self) -> None:
        """Claims anew what Redis has forgotten; several times, since a claim that is refused may be in the way."""
        while time.monotonic() < self._complete_at:
            for token, claim in list(self._under_way.items()):
                if token in self._under_way:
                    with suppress(GatewayError):  # it is taken, as it should be, or Redis is away again
                        await self._look(claim, "")
            await asyncio.sleep(RENEW_S)

    async def _kept(self, claim: Claim) -> Recording | None:
        """The answer that is kept; None once the key is claimed."""
        unreadable = ""
        while True:
            verdict, value, digest = await self._look(claim, unreadable)
            if verdict == "mine":
                return None
            if (recording := Recording.read(value)) is not None:
                _ensure_same(recording.fingerprint, claim)
                return recording
            log.warning("a kept answer can't be read: it is made anew")
            unreadable = digest

    async def _look(self, claim: Claim, unreadable: str) -> tuple[str, str, str]:
        """("mine", "", "") or ("kept", the answer, its SHA-1); one with the SHA-1 `unreadable` does not count."""
        keys = [redis_keys.revoked(claim.caller.token_id or ""), claim.kept_at, claim.claimed_at]
        args = (claim.token, claim.key.fingerprint, self._lease_ms, unreadable)
        verdict, value, digest = await self._store.run("idempotency_claim", keys, args)
        if verdict == "revoked":
            raise Unauthenticated
        if verdict == "taken":
            _ensure_same(value, claim)
            raise IdempotencyConflict
        return verdict, value, digest

    async def _release(self, claim: Claim) -> None:
        key, args = claim.release
        try:
            await self._store.run("idempotency_release", [key], args)
        except StoreUnavailable:
            self._late.add(key, args)


def _ensure_same(fingerprint: str, claim: Claim) -> None:
    if fingerprint != claim.key.fingerprint:
        raise IdempotencyMismatch
