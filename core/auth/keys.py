"""Keys that are shared with others: the operator's for the OpenAI doors, the network's for reports."""

from __future__ import annotations

import hmac

from core.errors import KeyRefused


class OperatorKey:
    """One shared key, or none: then nothing matches."""

    def __init__(self, key: str | None) -> None:
        self._key = None if key is None else key.encode()

    def matches(self, given: str) -> bool:
        """Whether this is the key; how long the comparison takes says nothing about it."""
        # A header may hold bytes that are no text; they come as lone surrogates.
        return self._key is not None and hmac.compare_digest(self._key, given.encode("utf-8", "surrogatepass"))


class OracleKey(OperatorKey):
    """The key that the network's programs share with the Oracle, and that agents report with."""

    def ensure(self, given: str) -> None:
        """Raises KeyRefused unless this is the key."""
        if self._key is None:
            raise KeyRefused("Oracle API key not configured")
        if not self.matches(given):
            raise KeyRefused("Invalid API key")
