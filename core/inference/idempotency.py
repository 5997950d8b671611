"""
Idempotency-Key: of all who ask with the same key one is served, and the others are given his answer again.

    nothing is known of the key    it is claimed, and the request is served
    its request is under way       409; for the life of the claim when the worker was killed
    its request was answered       the same answer, without a new count or charge
    it is another request's        422

An answer is kept by the very step that counts and charges it, so there is never one without the other. A request
that ends without a count frees its key.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from core import redis_keys
from core.auth.caller import Caller
from core.errors import IdempotencyConflict, IdempotencyMismatch, StoreUnavailable, Unauthenticated
from core.inference.late_releases import LateReleases
from core.inference.recordings import KeyedRecorder, Recording
from core.store import Store

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
    """The keys in Redis, each its caller's own. `lease_s` is longer than any request is served."""

    def __init__(self, store: Store, *, lease_s: int) -> None:
        self._store = store
        self._lease_ms = lease_s * 1000
        self._late = LateReleases(store)

    @asynccontextmanager
    async def opened(self, caller: Caller, key: IdempotencyKey) -> AsyncIterator[Recording | KeyedRecorder]:
        """
        The answer that is kept, else the recorder of the one that is to be made within the context.

        Raises IdempotencyConflict, IdempotencyMismatch, Unauthenticated (the token was revoked) or StoreUnavailable.
        """
        claim = Claim(caller, key)
        try:
            recording = await self._kept(claim)
        except (StoreUnavailable, asyncio.CancelledError):
            self._late.add(*claim.release)  # Redis may have done what nobody heard of
            raise
        if recording is not None:
            yield recording
            return
        recorder = KeyedRecorder(claim.kept_at, key.fingerprint)
        try:
            yield recorder
        finally:
            if not recorder.has_ended:
                await asyncio.shield(self._release(claim))

    async def aclose(self) -> None:
        """Claims that still wait for Redis end by themselves."""
        await self._late.aclose()

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
