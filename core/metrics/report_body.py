"""What an agent reports of itself: its fields, and the complaints about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from core import complaints
from core.errors import InvalidRequest
from core.inference.requests import MAX_MODEL_NAME
from core.wallet import is_address

MAX_AGENT_ID = 100
MAX_MODELS = 50
FIGURES = ("requests", "avgLatency", "errors")
FIELDS = ("agentId", "address", "models", "performance", "timestamp")


class Performance(msgspec.Struct, frozen=True, rename="camel"):
    """How its requests went; the latency is in ms."""

    requests: int | float
    avg_latency: int | float
    errors: int | float


class AgentReport(msgspec.Struct, frozen=True, rename="camel"):
    """One report; just what was sent, as no other field is taken."""

    agent_id: str
    address: str
    models: tuple[str, ...]
    performance: Performance
    timestamp: int | float  # unix ms by the agent's clock, which nothing relies on

    @property
    def is_well(self) -> bool:
        """Whether most of its requests succeed."""
        return 2 * self.performance.errors <= self.performance.requests


def parse(body: dict[str, Any]) -> AgentReport:
    """A report out of decoded JSON. Raises InvalidRequest with all complaints."""
    if found := list(_complaints(body)):
        raise InvalidRequest(found)
    return msgspec.convert(body, AgentReport)


def _complaints(body: dict[str, Any]) -> Iterator[str]:
    yield from (f"property {name} should not exist" for name in body if name not in FIELDS)
    if body.get("agentId") == "":
        yield "agentId should not be empty"
    yield from complaints.text("agentId", body.get("agentId"), MAX_AGENT_ID)
    address = body.get("address")
    if not (isinstance(address, str) and is_address(address)):
        yield "address must be an Ethereum address"
    yield from _models(body.get("models"))
    yield from _performance(body.get("performance"))
    yield from complaints.number("timestamp", body.get("timestamp"), 0)


def _models(value: Any) -> Iterator[str]:
    if not isinstance(value, list):
        yield "models must be an array"
        return
    if len(value) > MAX_MODELS:
        yield f"models must contain no more than {MAX_MODELS} elements"
    if not all(isinstance(name, str) and len(name) <= MAX_MODEL_NAME for name in value):
        yield f"each value in models must be shorter than or equal to {MAX_MODEL_NAME} characters"
    if not all(isinstance(name, str) for name in value):
        yield "each value in models must be a string"


def _performance(value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield "nested property performance must be either object or array"
        return
    yield from (f"performance.property {name} should not exist" for name in value if name not in FIGURES)
    for name in FIGURES:
        yield from complaints.number(f"performance.{name}", value.get(name), 0)
