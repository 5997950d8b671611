"""What a client asks for, the same value whichever door it came through."""

from __future__ import annotations

import msgspec

MAX_TEXT = 32_000  # characters of a prompt or of one message
MAX_MESSAGES = 256
MAX_MODEL_NAME = 100
MAX_STOPS, MAX_STOP = 4, 500
ROLES = ("system", "user", "assistant")


class Message(msgspec.Struct, frozen=True, gc=False):
    """One turn of a chat."""

    role: str  # one of ROLES
    content: str


class InferenceRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A validated request. It has a prompt, or messages, or both: then the prompt is what the model sees."""

    model: str
    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    max_tokens: int | None = None  # None: the model's default
    temperature: float = 0.7
    top_p: float = 0.9
    stop: tuple[str, ...] = ()

    @property
    def is_chat(self) -> bool:
        """Whether the model is to see messages."""
        return self.prompt is None
