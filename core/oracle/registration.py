"""Getting the gateway's wallet registered as an agent: the Oracle pays for the transaction."""

from __future__ import annotations

import json
import logging
from typing import Any

from core.clock import Clock
from core.oracle.client import OracleClient, OracleUnavailable
from core.wallet import Signer

EVERY_S = 300.0
CAPABILITIES = ["gateway"]

log = logging.getLogger(__name__)


class Registration:
    """Asks for it, once in a while; `endpoint` is the gateway's public URL, which the Oracle lists from then on."""

    def __init__(self, oracle: OracleClient, signer: Signer, endpoint: str | None, clock: Clock) -> None:
        self._oracle = oracle
        self._signer = signer
        self._endpoint = endpoint
        self._clock = clock
        self._next = clock.monotonic()
        self._told = False

    async def request(self) -> None:
        """Never raises: what hinders it stands in the log, and the next report tells whether it has worked."""
        if self._endpoint is None:
            self._say_what_to_do()
        elif self._clock.monotonic() >= self._next:
            self._next = self._clock.monotonic() + EVERY_S
            await self._register(self._endpoint)

    async def _register(self, endpoint: str) -> None:
        body = signed_registration(self._signer, endpoint, int(self._clock.now()))
        try:
            answer = await self._oracle.post("/api/nodes/register", body)
        except OracleUnavailable as problem:
            log.warning("the wallet %s could not be registered at the Oracle: %s", self._signer.address, problem)
            return
        if 200 <= answer.status < 300:
            log.info("the wallet %s is registered at the Oracle as %s", self._signer.address, endpoint)
        else:
            log.warning("the Oracle does not register %s as %s: %s", self._signer.address, endpoint, answer.status)

    def _say_what_to_do(self) -> None:
        if not self._told:
            log.warning(
                "the Oracle takes no reports from %s, which is no registered agent:"
                " set GATEWAY_URL to have it registered, or register it on the chain yourself",
                self._signer.address,
            )
        self._told = True


def signed_registration(signer: Signer, endpoint: str, timestamp: int) -> dict[str, Any]:
    """The body; all of it is signed, as compact JSON in this order."""
    body = {"address": signer.address, "endpoint": endpoint, "capabilities": CAPABILITIES, "timestamp": timestamp}
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return {**body, "signature": signer.sign_text(text)}
