"""Metrics reports as the Oracle takes them: the body, the signature over part of it, and what an answer means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Protocol

from core.clock import Clock
from core.metrics.counters import Report
from core.oracle.client import OracleAnswer, OracleClient
from core.wallet import Signer


class Outcome(Enum):
    """What became of a report."""

    ACCEPTED = auto()
    NOT_REGISTERED = auto()  # the wallet is no agent on the chain; or the Oracle could not ask the chain
    UNTRUSTED = auto()  # the signature, the key, or the time: the Oracle tells the first and the last apart in no way
    REPLAYED = auto()  # somebody reports for this wallet with later timestamps
    REFUSED = auto()  # anything else; 400 "Internal server error" among it, which may pass


class Sender(Protocol):
    """A way to report."""

    async def send(self, report: Report) -> Outcome:
        """Raises OracleUnavailable when no answer came; the report may have been booked all the same."""
        ...


def signed_text(report: Report) -> str:
    """What is signed: compact JSON in this order, of integers, with the wallet just as the body has it."""
    signed = {"agent": report.wallet, "processed_tokens": report.tokens, "timestamp": report.timestamp}
    return json.dumps(signed, separators=(",", ":"), ensure_ascii=False)


class SignedReports:
    """Reports for the wallet of the signer."""

    def __init__(self, oracle: OracleClient, signer: Signer, clock: Clock) -> None:
        self._oracle = oracle
        self._signer = signer
        self._uptime = _Uptime(clock)

    async def send(self, report: Report) -> Outcome:
        """See Sender."""
        body = _body(report, self._uptime.seconds(), self._signer.sign_text(signed_text(report)))
        return outcome(await self._oracle.post("/api/v1/metrics/report", body))


class KeyedReports:
    """Reports for any registered wallet, by the key that the operator shares with the Oracle."""

    def __init__(self, oracle: OracleClient, api_key: str, clock: Clock) -> None:
        self._oracle = oracle
        self._headers: Mapping[str, str] = {"x-api-key": api_key}
        self._uptime = _Uptime(clock)

    async def send(self, report: Report) -> Outcome:
        """See Sender."""
        body = _body(report, self._uptime.seconds(), "internal")
        return outcome(await self._oracle.post("/api/metrics", body, self._headers))


def outcome(answer: OracleAnswer) -> Outcome:
    """What an answer to a report means."""
    message = answer.body.get("message") if isinstance(answer.body, dict) else None
    text = message if isinstance(message, str) else ""
    if 200 <= answer.status < 300:
        # A web page of something in between has booked nothing.
        return Outcome.ACCEPTED if isinstance(answer.body, dict) and answer.body.get("success") else Outcome.REFUSED
    if answer.status == 401:
        return Outcome.UNTRUSTED
    if text == "Agent not registered on-chain":
        return Outcome.NOT_REGISTERED
    return Outcome.REPLAYED if text.startswith("Replay detected") else Outcome.REFUSED


class _Uptime:
    """Since when this process can report."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic()

    def seconds(self) -> int:
        return int(self._clock.monotonic() - self._since)


def _body(report: Report, uptime_s: int, signature: str) -> dict[str, Any]:
    return {
        "wallet": report.wallet,
        "tokensProcessed": report.tokens,
        "avgLatencyMs": report.avg_latency_ms,
        "requestCount": report.requests,
        "uptimeSeconds": uptime_s,
        "timestamp": report.timestamp,
        "signature": signature,
    }
