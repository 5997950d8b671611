"""Letting an agent in: it signs who it is and which model it serves (EIP-191), and no signature is good twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from core.auth.used_signatures import DRIFT_S, UsedSignatures
from core.clock import Clock
from core.errors import StoreUnavailable
from core.nodes.relay.directory import ModelName
from core.wallet import BadSignature, is_address, parse_signature, recover_text


class Refused(Exception):
    """An agent is not let in: the WebSocket's close code and reason, and what an auth_error says; None: no such."""

    def __init__(self, code: int, reason: str, message: str | None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.message = message


TIMEOUT = 4001, "Auth timeout", None
TRY_LATER = 1013  # of the registry of RFC 6455
FULL = TRY_LATER, "Too many agents", "Too many agents"
CROWDED = TRY_LATER, "Too many handshakes", None
NO_STORE = TRY_LATER, "Try again later", "Try again later"
AT_ONCE = 3  # agents of one network address that have not proved anything yet, at one worker
MAX_MESSAGE = 16 * 1024  # characters or bytes of a message before the proof; a whole one has some hundreds
UNEXPECTED = 4002, "Expected auth message", None

Filled = Annotated[str, Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an agent has proved to be."""

    address: str  # lower case
    model: str  # its own name of what it serves


class Auth(msgspec.Struct):
    """The first message of an agent."""

    address: Filled
    model: ModelName
    timestamp: Annotated[int, Meta(gt=0, le=2**53)]  # unix seconds
    signature: Filled

    @property
    def signed_text(self) -> str:
        """Compact JSON of the values as they were sent, in this order."""
        claims = {"address": self.address, "model": self.model, "timestamp": self.timestamp}
        return json.dumps(claims, ensure_ascii=False, separators=(",", ":"))


class Handshake:
    """Checks agents' first messages. `wallets`, in lower case, are those that may connect; None: all may."""

    def __init__(self, used: UsedSignatures, clock: Clock, wallets: Collection[str] | None) -> None:
        self._used = used
        self._clock = clock
        self._wallets = None if wallets is None else frozenset(wallets)
        self._knocking: Counter[str] = Counter()  # by network address

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """A place for one who has not proved anything yet, at network address `client`. Raises Refused."""
        if self._knocking[client] >= AT_ONCE:
            raise Refused(*CROWDED)
        self._knocking[client] += 1
        try:
            yield
        finally:
            self._knocking[client] -= 1
            if not self._knocking[client]:
                del self._knocking[client]

    async def check(self, message: str | bytes) -> Identity | None:
        """Who sends this; None for what is no JSON: the agent may try again. Raises Refused."""
        if len(message) > MAX_MESSAGE:
            raise Refused(*UNEXPECTED)
        try:
            fields = msgspec.json.decode(message)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        if not isinstance(fields, dict) or fields.get("type") != "auth":
            raise Refused(*UNEXPECTED)
        try:
            auth = msgspec.convert(fields, Auth)
        except msgspec.ValidationError:
            raise _refused(4003, "Missing auth fields") from None
        await self._ensure_genuine(auth)
        return Identity(auth.address.lower(), auth.model)

    async def _ensure_genuine(self, auth: Auth) -> None:
        if abs(self._clock.now() - auth.timestamp) > DRIFT_S:
            raise Refused(4004, "Timestamp drift", "Timestamp too old or too far in future")
        signature = _signature(auth)
        if self._wallets is not None and auth.address.lower() not in self._wallets:
            raise _refused(4006, "Wallet not allowed")
        try:
            if not await self._used.use(signature):
                raise _refused(4005, "Invalid signature")
        except StoreUnavailable:
            raise Refused(*NO_STORE) from None


def _signature(auth: Auth) -> bytes:
    try:
        signature = parse_signature(auth.signature)
        genuine = is_address(auth.address) and recover_text(auth.signed_text, signature) == auth.address.lower()
    except BadSignature:
        genuine = False
    if not genuine:
        raise _refused(4005, "Invalid signature")
    return signature


def _refused(code: int, reason: str) -> Refused:
    return Refused(code, reason, reason)
