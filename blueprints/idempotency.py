"""The Idempotency-Key of a request, and the header that tells an answer which is given again."""

from __future__ import annotations

import re

from sanic import Request

from core.errors import InvalidRequest
from core.inference.completion import Completion
from core.inference.idempotency import IdempotencyKey, fingerprint
from core.inference.streaming import AnswerStream

HEADER, REPLAYED = "Idempotency-Key", "Idempotency-Replayed"
VALUE = re.compile(r"[!-~]{1,255}")


def key_of(request: Request, parsed: object) -> IdempotencyKey | None:
    """
    The key that the client has given to his request, which was parsed to this; None without one.

    Raises InvalidRequest when it is not 1 to 255 visible ASCII characters, or given twice.
    """
    given = request.headers.getall(HEADER, [])
    if not given:
        return None
    if len(given) > 1 or not VALUE.fullmatch(given[0]):
        raise InvalidRequest(f"{HEADER} must be 1 to 255 visible ASCII characters")
    return IdempotencyKey(given[0], fingerprint(request.uri_template or "", parsed))


def replay_headers(answer: Completion | AnswerStream) -> dict[str, str]:
    """Nothing for an answer that was made just now."""
    return {REPLAYED: "true"} if answer.is_replay else {}
