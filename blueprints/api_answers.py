"""The answers of the API document: bodies, event streams, the headers of the quota, and each door's errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from blueprints import api_shapes as plain
from blueprints.api_schemas import ref
from blueprints.errors import native_error, openai_error
from core.errors import (
    GatewayError,
    IdempotencyConflict,
    IdempotencyMismatch,
    InsufficientCredit,
    InvalidRequest,
    NoNodes,
    ProModel,
    RateLimited,
    Unauthenticated,
    UnknownModel,
)

Part = dict[str, Any]
QUOTA_HEADERS = (
    "RateLimit-Policy",
    "RateLimit",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)
REPEATABLE_HEADERS = (*QUOTA_HEADERS, "Idempotency-Replayed")
HEADERS: dict[str, tuple[str, str]] = {  # what it says, and an example
    "X-Request-Id": ("The request's id: the one that you sent, if it is a plain word, else ours.", "my-request-1"),
    "Retry-After": ("Seconds to wait before the next try.", "1800"),
    "WWW-Authenticate": ("How to authenticate (RFC 6750).", "Bearer"),
    "RateLimit-Policy": ("The Free quota: `q` requests in any `w` seconds. Pro has none.", '"free";q=10;w=3600'),
    "RateLimit": ("What is left: `r` requests; `t` seconds until there is one more.", '"free";r=7;t=1800'),
    "x-ratelimit-limit-requests": ("The Free quota, in OpenAI's spelling.", "10"),
    "x-ratelimit-remaining-requests": ("What is left of it.", "7"),
    "x-ratelimit-reset-requests": ("Until there is one more.", "30m0s"),
    "Idempotency-Replayed": ("The answer was made before, for the same Idempotency-Key: it counts once.", "true"),
}
ERRORS: dict[int, tuple[str, tuple[str, ...]]] = {  # what it means, and its own headers
    400: ("The request can't be used as it is; the message says why.", ()),
    401: ("No token, or one that is forged, expired or signed out.", ("WWW-Authenticate",)),
    402: ("The deposit does not pay for the request: pay in, or ask for fewer tokens.", ()),
    403: ("The model is for Pro users.", ()),
    404: ("What is asked for does not exist.", ()),
    408: ("The request's body did not arrive in time.", ()),
    409: ("The first request with this Idempotency-Key has no answer yet.", ("Retry-After",)),
    413: ("The body is too large.", ()),
    422: ("This Idempotency-Key belongs to another request.", ()),
    429: (
        "The Free quota is used up; or, for Pro users, too much of what was served is not settled yet.",
        ("Retry-After", *QUOTA_HEADERS),
    ),
    503: ("Not now: no node can serve it, the store is away, or the gateway restarts. Try again.", ("Retry-After",)),
}
EXAMPLES: dict[int, GatewayError] = {
    400: InvalidRequest("Either prompt or messages must be provided"),
    401: Unauthenticated(),
    402: InsufficientCredit(5 * 10**12, 10**12),
    403: ProModel("meta-llama/Llama-3.1-70B"),
    404: UnknownModel("gpt-4o"),
    409: IdempotencyConflict(),
    422: IdempotencyMismatch(),
    429: RateLimited("Rate limit exceeded", details={"used": 10, "limit": 10, "resetAt": "2026-06-01T12:30:00.000Z"}),
    503: NoNodes(),
}


def headers() -> dict[str, Part]:
    """Every header by its name."""
    return {
        name: {"description": text, "schema": {"type": "string"}, "example": example}
        for name, (text, example) in HEADERS.items()
    }


def body(shape: type[msgspec.Struct], **examples: Any) -> Part:
    """A JSON body; each example by a name."""
    content: Part = {"schema": ref(shape)}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": content}


def events(example: str) -> Part:
    """A body of server-sent events: OpenAPI 3.1 has no schema for what comes event by event."""
    return {"text/event-stream": {"example": example}}


def text(*types: str) -> Part:
    """A body that is no JSON, of one of the content types."""
    return {kind: {"schema": {"type": "string"}} for kind in types}


def answer(about: str, content: Part, extra_headers: tuple[str, ...] = ()) -> Part:
    """One answer."""
    named = {name: {"$ref": f"#/components/headers/{name}"} for name in (*extra_headers, "X-Request-Id")}
    return {"description": about, "headers": named, "content": content}


def native_errors(*statuses: int) -> dict[int, Part]:
    """Errors in the shape of /api/v1."""
    return {status: _error(status, plain.NativeError, native_error) for status in statuses}


def openai_errors(*statuses: int) -> dict[int, Part]:
    """Errors in OpenAI's shape."""
    return {status: _error(status, plain.OpenAIError, openai_error) for status in statuses}


def _error(status: int, shape: type[msgspec.Struct], written: Callable[[GatewayError], dict[str, Any]]) -> Part:
    about, own_headers = ERRORS[status]
    examples = {"error": written(EXAMPLES[status])} if status in EXAMPLES else {}
    return answer(about, body(shape, **examples), own_headers)
