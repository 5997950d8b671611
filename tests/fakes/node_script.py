"""The script of a node: how it may misbehave, what it was asked, what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    """How a node misbehaves; `after` tokens were sent before, where that makes sense."""

    REFUSE = "refuse"  # the connection is reset as soon as it is there
    DROP_REUSED = "drop-reused"  # closed without a byte when a second request comes over one connection
    ERROR = "500"
    LOADING = "503"
    STATUS_LOADING = "status-loading"  # /health is 200 and says so; generating is 503
    HEALTH_STALL = "health-stall"  # only /health hangs: the node is busy
    INVALID = "422"
    OVERFLOW = "400"  # the prompt does not fit into the context
    UNAUTHORISED = "401"
    REDIRECT = "redirect"
    STALL_FIRST = "stall-first"
    STALL_BETWEEN = "stall-between"
    CUT_LINE = "cut-line"
    CUT_UTF8 = "cut-utf8"
    NO_END = "no-end"  # all tokens, a clean end of the body, but no end mark
    GARBAGE = "garbage"  # well framed, but not JSON
    NOT_HTTP = "not-http"
    NOT_UTF8 = "not-utf8"
    GIANT_LINE = "giant-line"
    GIANT_HEAD = "giant-head"
    ENDLESS = "endless"
    ERROR_EVENT = "error-event"
    JSON_ANYWAY = "json-anyway"  # one JSON answer although a stream was asked for
    EMPTY = "empty"
    COMPRESSED = "compressed"


@dataclass
class Seen:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int  # which connection it came over, counted from 1


@dataclass
class Reply:
    """What the script says for one request."""

    tokens: list[str]
    finish: str
    stream: bool
    chat: bool
    usage: bool
    prompt_tokens: int


PATHS = {
    "petals": ("/api/v1/generate",),
    "agent": ("/api/v1/generate",),
    "openai": ("/v1/chat/completions", "/v1/completions"),
}
STATUS_FAULTS = {
    Fault.ERROR: (500, "Inference error: CUDA out of memory at /opt/model"),
    Fault.LOADING: (503, "Model is still loading"),
    Fault.STATUS_LOADING: (503, "Model is still loading"),
    Fault.INVALID: (422, "ensure this value is less than or equal to 4096"),
    Fault.OVERFLOW: (400, "the request exceeds the available context size (2048 tokens)"),
    Fault.UNAUTHORISED: (401, "Invalid token"),
}
BAD_EVENTS = {
    Fault.GARBAGE: b"data: <html>busy</html>\n\n",
    Fault.NOT_UTF8: b'data: {"token": "\xff\xfe"}\n\n',
    Fault.GIANT_LINE: b"data: " + b"a" * 200_000 + b"\n\n",
}


def stopped(tokens: list[str], stops: list[str]) -> list[str]:
    """The tokens up to the first stop sequence, as llama-server cuts them."""
    text = "".join(tokens)
    end = min((text.find(stop) for stop in stops if stop in text), default=len(text))
    kept = []
    for token in tokens:
        kept.append(token[:end])
        end -= len(kept[-1])
    return [token for token in kept if token]
