"""Work as the body of a request, in the protocol of each kind of node."""

from __future__ import annotations

import msgspec

from core.inference.requests import Message
from core.nodes.node import NodeKind
from core.nodes.transport.origin import Request
from core.nodes.work import Work

GENERATE, CHAT, COMPLETIONS = "/api/v1/generate", "/v1/chat/completions", "/v1/completions"
MAX_JSON = 1024 * 1024  # bytes of an answer in one piece
MAX_EVENT = 1024  # bytes of an event on average: OpenAI's chunks wrap a token into 150 to 400 of them


class Parameters(msgspec.Struct):
    """How an `inputs` node samples. Its own repetition penalty stays in force."""

    max_new_tokens: int
    temperature: float
    top_p: float
    do_sample: bool


class Generate(msgspec.Struct, omit_defaults=True):
    """Petals and plumise-agent."""

    inputs: str
    parameters: Parameters
    stream: bool = False


class StreamOptions(msgspec.Struct):
    """OpenAI's: the last chunk tells the usage."""

    include_usage: bool = True


class Completion(msgspec.Struct, omit_defaults=True):
    """OpenAI's two completion endpoints: one takes `messages`, the other a `prompt`."""

    model: str
    max_tokens: int
    temperature: float
    top_p: float
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    stream_options: StreamOptions | None = None


class RelayRequest(msgspec.Struct, rename="camel"):
    """Agents behind the relay; the relay adds the request's id."""

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float
    top_p: float
    stream: bool


def request(work: Work, kind: NodeKind, model: str, *, stream: bool) -> Request:
    """What a node is sent; `model` is the node's own name of the model."""
    limit = MAX_JSON + (work.max_tokens * MAX_EVENT if stream else 0)
    if kind is NodeKind.OPENAI:
        body = _completion(work, model, stream=stream)
        return Request(COMPLETIONS if work.messages is None else CHAT, msgspec.json.encode(body), limit)
    if kind is NodeKind.RELAY:
        messages = (Message("user", work.prompt),) if work.messages is None else work.messages
        asked = RelayRequest(messages, work.max_tokens, work.temperature, work.top_p, stream)
        return Request("", msgspec.json.encode(asked), limit)
    # Sampling at temperature 0 would not be greedy there: Petals raises it to 0.01.
    parameters = Parameters(work.max_tokens, work.temperature, work.top_p, do_sample=work.temperature > 0)
    return Request(GENERATE, msgspec.json.encode(Generate(work.prompt, parameters, stream)), limit)


def _completion(work: Work, model: str, *, stream: bool) -> Completion:
    return Completion(
        model=model,
        max_tokens=work.max_tokens,
        temperature=work.temperature,
        top_p=work.top_p,
        messages=work.messages,
        prompt=work.prompt if work.messages is None else None,
        stop=work.stop,
        stream=stream,
        stream_options=StreamOptions() if stream else None,
    )
