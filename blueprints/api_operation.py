"""One operation of the API document, and how it is written in OpenAPI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blueprints.api_answers import Part

MODEL = "meta-llama/Llama-3.1-8B"
PROMPT = "A blockchain is"
MESSAGES = [{"role": "user", "content": "What is a blockchain?"}]
TEXT = "A chain of signed blocks."
REQUEST_ID = "req_1780000000000_0123456789abcdef"
CREATED = 1_780_000_000
SERVED = (400, 401, 402, 408, 413, 429, 503)  # the errors that every door to inference may answer with
REPEATABLE = (*SERVED, 409, 422)  # of those that take an Idempotency-Key
WALLET = ("wallet",)
WALLET_OR_OPERATOR = ("wallet", "operator")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path. Any one of the schemes in `security` lets the caller in; without any, everyone may."""

    route: str  # "post /api/v1/auth/nonce"
    id: str
    summary: str
    description: str = ""
    security: tuple[str, ...] = ()
    parameters: tuple[Part, ...] = ()
    body: Part | None = None
    answers: Mapping[int, Part] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """In lower case, as OpenAPI writes it."""
        return self.route.partition(" ")[0]

    @property
    def path(self) -> str:
        """With its parameters in braces."""
        return self.route.partition(" ")[2]

    def written(self, tag: str) -> Part:
        """The OpenAPI operation object."""
        written: Part = {"tags": [tag], "operationId": self.id, "summary": self.summary}
        if self.description:
            written["description"] = self.description
        written["security"] = [{scheme: []} for scheme in self.security]
        if self.parameters:
            written["parameters"] = list(self.parameters)
        if self.body is not None:
            written["requestBody"] = {"required": True, "content": self.body}
        written["responses"] = {str(status): self.answers[status] for status in sorted(self.answers)}
        return written


def in_path(name: str, text: str, example: str) -> Part:
    """A parameter of the path: any text."""
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema, "example": example}


def in_header(name: str, text: str, example: str) -> Part:
    """A header that must be there."""
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "header", "required": True, "description": text, "schema": schema, "example": example}


def in_query(name: str, schema: dict[str, Any], example: Any, *, required: bool = False) -> Part:
    """A parameter of the query."""
    return {"name": name, "in": "query", "required": required, "schema": schema, "example": example}


MODEL_ID = in_path("model_id", "A model's id, in any letter case; its slash may be written as %2F.", MODEL)
IDEMPOTENCY_KEY = in_header(
    "Idempotency-Key",
    "A name for this request, such as a new UUID, under which it is served and charged once however often it is sent"
    " within 24 hours: whoever sends it again gets the same answer.",
    "5f2c1d9e-0b7a-4a51-9d3b-6a1f6f1f5c11",
) | {"required": False, "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"}}
