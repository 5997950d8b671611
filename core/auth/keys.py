"""The operator's own key for the OpenAI doors."""

from __future__ import annotations

import hmac


class OperatorKey:
    """One shared key, or none: then nothing matches."""

    def __init__(self, key: str | None) -> None:
        self._key = None if key is None else key.encode()

    def matches(self, given: str) -> bool:
        """Whether this is the key; how long the comparison takes says nothing about it."""
        # A header may hold bytes that are no text; they come as lone surrogates.
        return self._key is not None and hmac.compare_digest(self._key, given.encode("utf-8", "surrogatepass"))
