"""
The Oracle's rules for metrics reports, as they were recorded: what it takes, what it answers, what it books.

    ledger = MetricsLedger(key="k", registered={wallet})
    status, body = ledger.post("/api/v1/metrics/report", json_bytes, headers)

`routes()` serves it over HTTP (for `OracleServer.add_routes`).
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

REPORT, INTERNAL, REGISTER = "/api/v1/metrics/report", "/api/metrics", "/api/nodes/register"
AGENT = "/api/v1/metrics/agents/{address}"
NUMBERS = ("tokensProcessed", "avgLatencyMs", "requestCount", "uptimeSeconds", "timestamp")
FIELDS = ("wallet", *NUMBERS, "signature", "proofs")
PROOF_FIELDS = ("modelHash", "inputHash", "outputHash", "tokenCount")
CAP, WINDOW_S = 1_000_000_000, 60
REASONS = {400: "Bad Request", 401: "Unauthorized", 500: None}

Reply = tuple[int, dict[str, Any]]


@dataclass
class Agent:
    """What the Oracle has of one wallet in this epoch."""

    last_tokens: int = 0
    last_requests: int = 0
    timestamp: float = 0
    tokens: int = 0  # booked
    requests: int = 0  # booked
    latency: float = 0.0
    uptime: float = 0.0


class Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, message: str | list[str]) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class MetricsLedger:
    """The book of all wallets. `registered` are lower-case wallets; `now` is the Oracle's clock."""

    key: str | None = None
    registered: set[str] = field(default_factory=set)
    now: Callable[[], float] = time.time
    failing: bool = False  # every report ends with 400 "Internal server error"
    losing: bool = False  # every reply is lost, after the report was booked
    agents: dict[str, Agent] = field(default_factory=dict)
    answers: list[tuple[int, Any]] = field(default_factory=list)  # to all reports: status and message
    registrations: list[dict[str, Any]] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)  # reports, as they came
    _registered_at: dict[str, float] = field(default_factory=dict)

    def booked(self, wallet: str) -> tuple[int, int]:
        """Tokens and requests."""
        agent = self.agents.get(wallet.lower(), Agent())
        return agent.tokens, agent.requests

    def untrusted(self) -> int:
        """How many reports had a wrong signature, key or time."""
        return sum(status == 401 for status, _ in self.answers)

    def restart(self, *, epoch_is_new: bool = False) -> None:
        """The last figures come back from the database, but only those of the running epoch; bookings stay."""
        if epoch_is_new:
            for agent in self.agents.values():
                agent.last_tokens = agent.last_requests = 0
                agent.timestamp = 0

    def post(self, path: str, raw: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """Any of the three POSTs; header names are lower-case."""
        try:
            reply = self._post(path, raw, headers or {})
        except Refused as refused:
            reason = {} if REASONS[refused.status] is None else {"error": REASONS[refused.status]}
            reply = refused.status, {"message": refused.message, **reason, "statusCode": refused.status}
        if path != REGISTER:
            self.answers.append((reply[0], reply[1]["message"]))
        return reply

    def _post(self, path: str, raw: bytes, headers: Mapping[str, str]) -> Reply:
        try:
            body = json.loads(raw)
        except ValueError as problem:
            raise Refused(400, str(problem)) from None
        if path == REGISTER:
            return self._register(body)
        self.seen.append(body)
        if complaints := [*_report_complaints(body)]:
            raise Refused(400, complaints)
        self._authenticate(path, body, headers.get("x-api-key", ""))
        return self._book(body)

    def _authenticate(self, path: str, body: dict[str, Any], key: str) -> None:
        if path == INTERNAL and key:
            if key != self.key:
                raise Refused(401, "Invalid API key")
            return
        text = serialised({"agent": "wallet", "processed_tokens": "tokensProcessed", "timestamp": "timestamp"}, body)
        self._verify(body["wallet"], text, body["signature"], body["timestamp"])

    def _verify(self, wallet: str, text: str, signature: Any, timestamp: float) -> None:
        if abs(int(self.now()) - timestamp) > WINDOW_S or not signed_by(wallet, text, signature):
            raise Refused(401, "Invalid signature")

    def _book(self, body: dict[str, Any]) -> Reply:
        wallet, tokens, requests = body["wallet"].lower(), body["tokensProcessed"], body["requestCount"]
        if wallet not in self.registered:
            raise Refused(400, "Agent not registered on-chain")
        agent = self.agents.setdefault(wallet, Agent())
        if body["timestamp"] <= agent.timestamp:
            raise Refused(400, "Replay detected: timestamp must be strictly increasing")
        if tokens > CAP:
            raise Refused(400, "Token count exceeds maximum allowed")
        if self.failing or tokens != int(tokens):
            raise Refused(400, "Internal server error")
        first = agent.timestamp == 0
        new_requests = requests - agent.last_requests if requests >= agent.last_requests else requests
        agent.tokens += tokens - agent.last_tokens if tokens >= agent.last_tokens else tokens
        total = agent.requests + new_requests
        if agent.requests == 0:
            agent.latency = body["avgLatencyMs"]
        elif total:
            agent.latency = (agent.latency * agent.requests + body["avgLatencyMs"] * requests) / total
        agent.last_tokens, agent.last_requests, agent.requests = tokens, requests, total
        agent.timestamp, agent.uptime = body["timestamp"], body["uptimeSeconds"]
        return 201, {"success": True, "message": "Metrics recorded successfully", "shouldReset": first}

    def _register(self, body: dict[str, Any]) -> Reply:
        unknown = [f"property {name} should not exist" for name in body if name not in REGISTRATION]
        if unknown:
            raise Refused(400, unknown)
        names = {name: name for name in ("address", "endpoint", "capabilities", "timestamp")}
        self._verify(body["address"], serialised(names, body), body["signature"], body["timestamp"])
        wallet = body["address"].lower()
        if body["timestamp"] <= self._registered_at.get(wallet, 0):
            raise Refused(400, "Replay detected: timestamp must be strictly increasing")
        self._registered_at[wallet] = body["timestamp"]
        self.registrations.append(body)
        self.registered.add(wallet)
        return 201, {"success": True, "message": "Node registered successfully"}

    def metrics_of(self, address: str) -> dict[str, Any]:
        """GET of one agent's metrics."""
        agent = self.agents.get(address.lower(), Agent())
        return {
            "address": address.lower(),
            "epoch": 0,
            "tokensProcessed": str(agent.tokens),
            "avgLatencyMs": round(agent.latency, 2),
            "requestCount": agent.requests,
            "uptimeSeconds": agent.uptime,
            "lastUpdated": js_number(agent.timestamp),
        }

    def routes(self) -> list[web.RouteDef]:
        """The endpoints over HTTP."""
        return [
            *(web.post(path, self._answer) for path in (REPORT, INTERNAL, REGISTER)),
            web.get(AGENT, self._show),
        ]

    async def _answer(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        status, body = self.post(request.path, await request.read(), headers)
        if self.losing and request.transport is not None:
            request.transport.abort()
        return web.json_response(body, status=status)

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response(self.metrics_of(request.match_info["address"]))


REGISTRATION = (
    "address",
    "endpoint",
    "capabilities",
    "timestamp",
    "signature",
    "benchmarkTokPerSec",
    "lanIp",
    "canDistribute",
)


def serialised(names: Mapping[str, str], body: Mapping[str, Any]) -> str:
    """JSON.stringify of an object whose properties are taken from the parsed body, in this order."""
    return "{" + ",".join(f"{json.dumps(name)}:{js_value(body[source])}" for name, source in names.items()) + "}"


def js_value(value: Any) -> str:
    """A value as JavaScript writes it."""
    if isinstance(value, list):
        return "[" + ",".join(map(js_value, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return js_number(value)


def js_number(value: float) -> str:
    """A number as JavaScript writes it: 120.0 is 120, and 1e21 is no row of digits."""
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    return re.sub(r"e([+-])0*", r"e\1", repr(float(value)))


def signed_by(wallet: str, text: str, signature: Any) -> bool:
    """Whether the wallet made this EIP-191 signature; it needs its 0x."""
    if not isinstance(signature, str) or not re.fullmatch(r"0x[0-9a-fA-F]{130}", signature):
        return False
    try:
        signer: str = Account.recover_message(encode_defunct(text=text), signature=signature)
    except (BadSignature, ValidationError):
        return False
    return signer.lower() == wallet.lower()


def _report_complaints(body: Any) -> list[str]:
    found = [f"property {name} should not exist" for name in body if name not in FIELDS]
    if not isinstance(body.get("wallet"), str) or not re.fullmatch(r"0x[0-9a-fA-F]{40}", body["wallet"]):
        found.append("wallet must be an Ethereum address")
    for name in NUMBERS:
        found += _number_complaints(name, body.get(name))
    if not isinstance(body.get("signature"), str):
        found.append("signature must be a string")
    for index, proof in enumerate(body.get("proofs") or []):
        found += [f"proofs.{index}.property {name} should not exist" for name in proof if name not in PROOF_FIELDS]
    return found


def _number_complaints(name: str, value: Any) -> list[str]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    found = [] if is_number and value >= 0 else [f"{name} must not be less than 0"]
    return found if is_number else [*found, f"{name} must be a number conforming to the specified constraints"]
