"""The tokens that a sign-in yields: signed, short-lived, and revocable (JWT, RFC 7519, 8725 and 9068)."""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from typing import Annotated, Any, Literal

import jwt
import msgspec

from core import redis_keys
from core.auth.caller import Caller
from core.clock import Clock
from core.errors import Unauthenticated
from core.store import Store

ALGORITHM = "HS256"
HEADER = {"alg": ALGORITHM, "typ": "at+jwt"}  # to the letter: no kid, no crit, nothing to be led astray by
ISSUER = "plumise-inference-api"
LEEWAY_S = 30  # what the clocks of two machines may differ by
MAX_LENGTH = 4096
REMEMBERED = 10_000  # tokens

# PyJWT would take padding too, and then one token could be written in several ways.
SHAPE = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


class Claims(msgspec.Struct):
    """What a token says; every field must be there. Times are unix seconds."""

    iss: Literal["plumise-inference-api"]
    aud: Literal["plumise-inference-api"]
    sub: Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{40}\Z")]
    jti: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    iat: int
    exp: int


class TokenService:
    """
    Issues and checks tokens.

    Tokens of the previous secret stay good until they expire, so that secrets can be changed at run time. What
    passed once is remembered by its whole text: the next check is a look-up.
    """

    def __init__(self, secret: str, previous_secret: str | None, life_s: int, clock: Clock, store: Store) -> None:
        self._secrets = [secret] if previous_secret is None else [secret, previous_secret]
        self._life_s = life_s
        self._clock = clock
        self._store = store
        self._jws = jwt.PyJWS([ALGORITHM])
        self._remembered: OrderedDict[str, Caller] = OrderedDict()

    def issue(self, address: str) -> str:
        """A token for a lower-case address. `address` among the claims is what the former service's clients read."""
        now = int(self._clock.now())
        times = {"iat": now, "exp": now + self._life_s}
        claims = {"iss": ISSUER, "aud": ISSUER, "sub": address, "address": address, "jti": secrets.token_hex(16)}
        return self._jws.encode(msgspec.json.encode(claims | times), self._secrets[0], ALGORITHM, HEADER)

    def verify(self, token: str) -> Caller:
        """Whose token this is; whether it was revoked, `ensure_live` tells. Raises Unauthenticated."""
        caller = self._remembered.get(token)
        if caller is None:
            caller = self._decode(token)
            self._remember(token, caller)
        else:
            self._remembered.move_to_end(token)
        if caller.expires_at is None or caller.expires_at + LEEWAY_S <= self._clock.now():
            raise Unauthenticated
        return caller

    async def revoke(self, caller: Caller) -> None:
        """Ends the caller's token for all workers; the operator's key has none. Raises StoreUnavailable."""
        if caller.token_id is not None and caller.expires_at is not None:
            left_s = caller.expires_at + LEEWAY_S - int(self._clock.now())
            await self._store.set(redis_keys.revoked(caller.token_id), "1", ttl_s=max(1, left_s))

    async def ensure_live(self, caller: Caller) -> None:
        """Raises Unauthenticated when the caller's token was revoked, StoreUnavailable when that can't be told."""
        if caller.token_id is not None and await self._store.exists(redis_keys.revoked(caller.token_id)):
            raise Unauthenticated

    def _decode(self, token: str) -> Caller:
        if len(token) > MAX_LENGTH or not SHAPE.fullmatch(token):
            raise Unauthenticated
        claims = self._claims(self._signed_payload(token))
        if claims.iat > self._clock.now() + LEEWAY_S:
            raise Unauthenticated
        return Caller(claims.sub, claims.jti, claims.exp)

    def _signed_payload(self, token: str) -> bytes:
        for secret in self._secrets:
            try:
                parts: dict[str, Any] = self._jws.decode_complete(token, secret, [ALGORITHM])
            except jwt.InvalidTokenError:
                continue
            if parts["header"] == HEADER:
                payload: bytes = parts["payload"]
                return payload
        raise Unauthenticated

    def _claims(self, payload: bytes) -> Claims:
        try:
            return msgspec.json.decode(payload, type=Claims)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unauthenticated from None

    def _remember(self, token: str, caller: Caller) -> None:
        self._remembered[token] = caller
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
