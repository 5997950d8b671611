"""The bodies of the `/v1` doors, in OpenAI's shapes; fields that we do not know are ignored."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from core.body import limit_depth, malformed
from core.errors import InvalidRequest
from core.inference.requests import (
    MAX_MESSAGES,
    MAX_MODEL_NAME,
    MAX_STOP,
    MAX_STOPS,
    MAX_TEXT,
    InferenceRequest,
    Message,
)

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Stop = Annotated[str, Meta(min_length=1, max_length=MAX_STOP)]
Tokens = Annotated[int, Meta(ge=1)]
ROLE_OF = {"developer": "system"}


class ContentPart(msgspec.Struct, frozen=True):
    """One part of a message; only text is served."""

    type: str
    text: Text | None = None


class ChatMessage(msgspec.Struct, frozen=True):
    """One turn, as clients send it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[ContentPart], Meta(max_length=MAX_MESSAGES)] | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """What a stream carries besides the text."""

    include_usage: bool | None = False


class OpenAIBody(msgspec.Struct, frozen=True, kw_only=True):
    """What both doors have in common."""

    model: Annotated[str, Meta(min_length=1, max_length=MAX_MODEL_NAME)]
    max_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    n: int | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=MAX_STOPS)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None


class ChatBody(OpenAIBody, frozen=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Tokens | None = None


class CompletionBody(OpenAIBody, frozen=True, kw_only=True):
    """POST /v1/completions."""

    prompt: Text | Annotated[list[Text], Meta(min_length=1, max_length=1)]


class OpenAIRequest(msgspec.Struct, frozen=True, gc=False):
    """The request, and how its answer is to be sent."""

    inference: InferenceRequest
    stream: bool
    include_usage: bool


def parse_chat(body: bytes) -> OpenAIRequest:
    """Raises InvalidRequest; its `param` names the field."""
    chat = _decode(body, _CHAT)
    messages = tuple(_message(index, message) for index, message in enumerate(chat.messages))
    return _request(chat, messages=messages, max_tokens=chat.max_completion_tokens or chat.max_tokens)


def parse_completion(body: bytes) -> OpenAIRequest:
    """Raises InvalidRequest; its `param` names the field."""
    completion = _decode(body, _COMPLETION)
    prompt = completion.prompt if isinstance(completion.prompt, str) else completion.prompt[0]
    if not prompt:
        raise InvalidRequest("'prompt' must not be empty", param="prompt")
    return _request(completion, prompt=prompt, max_tokens=completion.max_tokens)


_CHAT, _COMPLETION = msgspec.json.Decoder(ChatBody), msgspec.json.Decoder(CompletionBody)
_Body = TypeVar("_Body")


def _decode(body: bytes, decoder: msgspec.json.Decoder[_Body]) -> _Body:
    limit_depth(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as problem:
        what, _, where = str(problem).partition(" - at `$")
        param = where.rstrip("`").lstrip(".") or _missing_field(what)
        raise InvalidRequest(f"Invalid request body: {str(problem).replace('$.', '')}", param=param) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidRequest(f"Invalid request body: {malformed(problem)}") from None


def _missing_field(complaint: str) -> str | None:
    match = re.search(r"missing required field `(\w+)`", complaint)
    return match[1] if match else None


def _request(
    body: OpenAIBody,
    *,
    max_tokens: int | None,
    messages: tuple[Message, ...] | None = None,
    prompt: str | None = None,
) -> OpenAIRequest:
    if body.n not in (None, 1):
        raise InvalidRequest("'n' must be 1: an answer has one choice here", param="n")
    options = body.stream_options
    return OpenAIRequest(
        InferenceRequest(
            model=body.model,
            messages=messages,
            prompt=prompt,
            max_tokens=max_tokens,
            temperature=0.7 if body.temperature is None else body.temperature,
            top_p=0.9 if body.top_p is None else body.top_p,
            stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        ),
        stream=bool(body.stream),
        include_usage=bool(options and options.include_usage),
    )


def _message(index: int, message: ChatMessage) -> Message:
    role = ROLE_OF.get(message.role, message.role)
    if not isinstance(message.content, list):
        return Message(role, message.content or "")
    for position, part in enumerate(message.content):
        if part.type != "text" or part.text is None:
            where = f"messages[{index}].content[{position}]"
            raise InvalidRequest(f"'{where}': only parts of type 'text' are served", param=where)
    text = "\n".join(part.text or "" for part in message.content)
    if len(text) > MAX_TEXT:
        raise InvalidRequest(f"'messages[{index}].content' is over {MAX_TEXT} characters", param="messages")
    return Message(role, text)
