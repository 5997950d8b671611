"""The one who asks, as every service sees him."""

from __future__ import annotations

from dataclasses import dataclass

OPERATOR = "openai-compat"


@dataclass(frozen=True, slots=True)
class Caller:
    """A signed-in wallet, or the operator's own key on the OpenAI doors."""

    subject: str  # the lower-case address, or OPERATOR
    token_id: str | None = None  # the token's jti; None for the operator's key, which can't be logged out
    expires_at: int | None = None  # unix seconds

    @property
    def is_operator(self) -> bool:
        """Whether this is the operator's key: Pro, without a quota, nobody's wallet."""
        return self.subject == OPERATOR
