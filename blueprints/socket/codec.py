"""JSON for python-socketio, by the rules of the other doors: what they refuse is refused here."""

from __future__ import annotations

from typing import Any

import msgspec

from core.body import decode_json
from core.errors import InvalidRequest


def dumps(value: Any, **_: Any) -> str:
    """Compact JSON; Korean stays as it is. The library's own formatting options change nothing."""
    return msgspec.json.encode(value).decode()


def loads(text: str | bytes, **_: Any) -> Any:
    """An object or array. Raises ValueError, as the library expects it."""
    try:
        return decode_json(text.encode() if isinstance(text, str) else text)
    except InvalidRequest as problem:
        raise ValueError(problem.text) from None
