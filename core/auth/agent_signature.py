"""Agents as clients: each request is signed by the agent's wallet, instead of a token (plumise-mcp's three headers)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from core.auth.caller import Caller
from core.auth.used_signatures import DRIFT_S, UsedSignatures
from core.clock import Clock
from core.errors import Unauthenticated
from core.wallet import BadSignature, checksum, is_address, parse_signature, recover_text

HEADERS = ("x-agent-address", "x-agent-signature", "x-agent-timestamp")
SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AgentClaim:
    """Who somebody says he is; nothing of it is checked against the signature yet."""

    address: str  # lower case
    timestamp: int  # unix seconds
    signature: bytes  # r, s, v

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Self | None:
        """The claim of a request; None when it makes none. Raises Unauthenticated when it can't be right."""
        address, signature, timestamp = (headers.get(name, "") for name in HEADERS)
        if not (address or signature or timestamp):
            return None
        if not (is_address(address) and SECONDS.fullmatch(timestamp)):
            raise Unauthenticated
        try:
            return cls(address.lower(), int(timestamp), parse_signature(signature))
        except BadSignature:
            raise Unauthenticated from None

    def signed_text(self, model: str) -> str:
        """What the wallet has signed (EIP-191), for a request that names this model."""
        return f"inference:{checksum(self.address)}:{model}:{self.timestamp}"


class AgentSignatures:
    """Checks signed requests. A signature is good once, within DRIFT_S of its timestamp."""

    def __init__(self, used: UsedSignatures, clock: Clock) -> None:
        self._used = used
        self._clock = clock

    def ensure_timely(self, claim: AgentClaim) -> None:
        """Refuses a claim from another time, before anything is read for it. Raises Unauthenticated."""
        if abs(self._clock.now() - claim.timestamp) > DRIFT_S:
            raise Unauthenticated

    async def verify(self, claim: AgentClaim, model: str) -> Caller:
        """The caller; `model` is what his request names. Raises Unauthenticated, StoreUnavailable."""
        self.ensure_timely(claim)  # again: a body that came slowly must not outlive the mark of the first use
        try:
            genuine = recover_text(claim.signed_text(model), claim.signature) == claim.address
        except BadSignature:
            genuine = False
        if not (genuine and await self._used.use(claim.signature)):
            raise Unauthenticated
        return Caller(claim.address)
