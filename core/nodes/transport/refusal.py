"""What a client is told when a node refuses its request: a sentence, never the node's own page."""

from __future__ import annotations

import re

import msgspec

from core.errors import NodeRefused

MAX_BODY = 64 * 1024  # bytes
MAX_EXTRACT = 200  # characters
CONTEXT = re.compile(r"context[ _](size|length|window)|maximum context|exceed_context", re.IGNORECASE)
INTERNALS = re.compile(r"\S*(?:://|/\S*/|\\\S*\\)\S*")  # URLs and paths; a model's name has one slash


class Complaint(msgspec.Struct):
    """FastAPI's `detail` (a text, or a list of faults), OpenAI's `error`."""

    detail: object = None
    error: object = None


def refusal(body: bytes) -> NodeRefused:
    """The error for a client, from the body of a node's 400, 413 or 422."""
    if CONTEXT.search(body.decode("utf-8", "replace")):
        return NodeRefused("The prompt and the answer do not fit into the model's context: shorten the prompt.")
    reason = _extract(body)
    return NodeRefused(f"The node refused the request: {reason}" if reason else "The node refused the request.")


def _extract(body: bytes) -> str:
    try:
        complaint = msgspec.json.decode(body, type=Complaint)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    line = " ".join("".join(c if c.isprintable() else " " for c in _said(complaint)).split())
    return INTERNALS.sub("…", line)[:MAX_EXTRACT]


def _said(complaint: Complaint) -> str:
    match complaint:
        case Complaint(detail=str(text)) | Complaint(error=str(text)) | Complaint(error={"message": str(text)}):
            return text
        case Complaint(detail=[{"loc": [*_, str(field)], "msg": str(text)}, *_]):
            return f"{field}: {text}"
        case _:
            return ""
