"""What leaves through the doors, as typed shapes: one place for the encoder, the API document and the tests."""

from __future__ import annotations

import msgspec

from core.inference.completion import Completion, FinishReason, Usage


class Turn(msgspec.Struct, frozen=True):
    """The assistant's message."""

    content: str
    role: str = "assistant"


# --- /api/v1: the former service's shapes ---


class NativeChoice(msgspec.Struct, frozen=True, omit_defaults=True):
    """`text` answers a prompt, `message` answers messages; a request with both gets both."""

    finish_reason: FinishReason
    text: str | None = None
    message: Turn | None = None


class NativeCompletion(msgspec.Struct, frozen=True):
    """POST /api/v1/inference and /chat."""

    id: str
    model: str
    choices: list[NativeChoice]
    usage: Usage


class NativeEnd(msgspec.Struct, frozen=True):
    """Data of the `complete` event that ends a stream."""

    id: str
    model: str
    finish_reason: FinishReason
    usage: Usage


# --- /v1: OpenAI's shapes ---


class ChatChoice(msgspec.Struct, frozen=True):
    """The one choice of a chat."""

    message: Turn
    finish_reason: FinishReason
    index: int = 0
    logprobs: None = None


class TextChoice(msgspec.Struct, frozen=True):
    """The one choice of a text completion, whole or as a piece."""

    text: str
    finish_reason: FinishReason | None
    index: int = 0
    logprobs: None = None


class ChatCompletion(msgspec.Struct, frozen=True):
    """POST /v1/chat/completions."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    object: str = "chat.completion"


class TextCompletion(msgspec.Struct, frozen=True):
    """POST /v1/completions."""

    id: str
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    object: str = "text_completion"


def native(completion: Completion, *, with_text: bool, with_message: bool) -> NativeCompletion:
    """The former service's shape of an answer."""
    choice = NativeChoice(
        completion.finish_reason,
        text=completion.text if with_text else None,
        message=Turn(completion.text) if with_message else None,
    )
    return NativeCompletion(completion.grant.request_id, completion.grant.model.id, [choice], completion.told_usage)


def chat(completion: Completion) -> ChatCompletion:
    """OpenAI's shape of a chat."""
    choice = ChatChoice(Turn(completion.text), completion.finish_reason)
    grant = completion.grant
    return ChatCompletion(
        f"chatcmpl-{grant.request_id}", completion.created, grant.model.id, [choice], completion.told_usage
    )


def text(completion: Completion) -> TextCompletion:
    """OpenAI's shape of a text completion."""
    choice = TextChoice(completion.text, completion.finish_reason)
    grant = completion.grant
    return TextCompletion(
        f"cmpl-{grant.request_id}", completion.created, grant.model.id, [choice], completion.told_usage
    )
