"""A node's answer, event by event or in one piece, as text: one class for each protocol."""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

from core.inference.completion import FinishReason
from core.nodes.transport.failures import NodeBroken, NodeFailed
from core.nodes.transport.stops import StopFilter
from core.nodes.work import Work

MAX_TOKEN, SLACK = 64, 1024  # characters: the most that honest tokens have on average, and what one of them may
SPECIAL = ("</s>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>")  # end-of-text tokens that agents let through


class Answer(Protocol):
    """
    What all protocols' answers have in common.

    `event` takes the data of one server-sent event, `whole` the body of an answer in one piece; both give the text
    that may be handed out now ("" for none) and raise NodeFailed or NodeBroken. `ended` becomes true with the end
    mark, or when a stop sequence is met (`cut`: then the node is still working, in vain).
    """

    ended: bool
    cut: bool
    pieces: int
    tokens: int | None
    prompt_tokens: int | None

    def __init__(self, work: Work) -> None: ...

    def event(self, data: bytes) -> str: ...

    def whole(self, body: bytes) -> str: ...

    @property
    def finish_reason(self) -> FinishReason | None: ...

    @property
    def may_be_empty(self) -> bool:
        """Whether no text at all is an answer, rather than a node that does not work."""
        ...


class Generated(msgspec.Struct, gc=False):
    """Petals' and plumise-agent's answer in one piece."""

    generated_text: str
    num_tokens: int | None = None


class Token(msgspec.Struct, gc=False):
    """One event of plumise-agent."""

    token: str = ""
    error: object = None


class InputsAnswer:
    """Petals and plumise-agent: they know no stop sequences and name no finish reason."""

    __slots__ = (
        "_events", "_max_tokens", "_room", "_special", "_stops", "cut", "ended", "pieces", "prompt_tokens", "tokens",
    )  # fmt: skip

    def __init__(self, work: Work) -> None:
        self.ended = self.cut = False
        self.pieces = 0
        self.tokens: int | None = None
        self.prompt_tokens: int | None = None
        self._max_tokens = work.max_tokens
        self._room = work.max_tokens * MAX_TOKEN + SLACK
        self._stops = StopFilter(work.inputs_stop)
        self._special = ""  # held back: it is dropped if the text ends with it
        self._events = 0

    def event(self, data: bytes) -> str:
        if data == b"[DONE]":
            return self.finish()
        event = decoded(TOKEN, data)
        if event.error is not None:
            raise NodeFailed("it sent an error event")
        return self.add(event.token)

    def add(self, token: str) -> str:
        """The next token of a stream, or all the text at once."""
        self._events += 1
        if not token:
            return ""
        self._room -= len(token)
        if self._room < 0:
            raise NodeBroken("it sends more text than it was asked for")
        return self._passed(token)

    def finish(self) -> str:
        """The end mark has come."""
        self.ended = True
        return self._stops.finish()

    def whole(self, body: bytes) -> str:
        answer = decoded(GENERATED, body)
        self.tokens = counted(answer.num_tokens)
        text = self._passed(answer.generated_text) + self._stops.finish()
        self.ended = True
        return text

    @property
    def finish_reason(self) -> FinishReason | None:
        if not self.ended:
            return None
        made = self._events if self.tokens is None else self.tokens
        return "length" if not self.cut and made >= self._max_tokens else "stop"

    @property
    def may_be_empty(self) -> bool:
        return False  # text that is cut at its first character has come, all the same

    def _passed(self, token: str) -> str:
        text = self._special + token
        body = _without_special(text) if text.endswith(">") else text
        self._special = text[len(body) :]
        self.pieces += bool(body)
        passed = self._stops.feed(body)
        self.ended = self.cut = self._stops.hit
        return passed


class Text(msgspec.Struct, gc=False):
    """A message, or what a chunk adds to it. Reasoning is no part of the answer; it shows that a node works."""

    content: str | None = None
    reasoning_content: str | None = None


class Choice(msgspec.Struct, gc=False):
    """One of OpenAI's choices, of any of the four shapes."""

    delta: Text | None = None
    message: Text | None = None
    text: str | None = None
    finish_reason: str | None = None


class Tokens(msgspec.Struct, gc=False):
    """OpenAI's usage."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Chunk(msgspec.Struct, gc=False):
    """An OpenAI answer, or a chunk of one; the one that tells the usage has no choices."""

    choices: list[Choice] = []
    usage: Tokens | None = None
    error: object = None


class CompletionAnswer:
    """llama-server and its kin: they cut at stop sequences themselves and say why they ended."""

    __slots__ = ("_reason", "_reasoned", "_room", "_stops", "cut", "ended", "pieces", "prompt_tokens", "tokens")

    def __init__(self, work: Work) -> None:
        self.ended = self.cut = False
        self.pieces = 0
        self.tokens: int | None = None
        self.prompt_tokens: int | None = None
        self._stops = bool(work.stop)
        self._room = work.max_tokens * MAX_TOKEN + SLACK
        self._reason: str | None = None
        self._reasoned = False

    def event(self, data: bytes) -> str:
        if data == b"[DONE]":
            self.ended = True
            return ""
        return self._read(decoded(CHUNK, data))

    def whole(self, body: bytes) -> str:
        answer = decoded(CHUNK, body)
        if not answer.choices:
            raise NodeFailed("it sent no choice")
        text = self._read(answer)
        self.ended = True
        return text

    @property
    def finish_reason(self) -> FinishReason | None:
        if not self.ended:
            return None
        return "length" if self._reason == "length" else "stop"

    @property
    def may_be_empty(self) -> bool:
        # A stop sequence at the very beginning, or all tokens spent on reasoning: another node would do the same.
        return self._reasoned or (self._stops and self._reason == "stop")

    def _read(self, chunk: Chunk) -> str:
        if chunk.error is not None:
            raise NodeFailed("it sent an error")
        if chunk.usage is not None:
            self.tokens, self.prompt_tokens = counted(chunk.usage.completion_tokens), counted(chunk.usage.prompt_tokens)
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self._reason = choice.finish_reason or self._reason
        content = choice.delta or choice.message
        if content is not None and content.reasoning_content:
            self._reasoned = True
        text = (choice.text if content is None else content.content) or ""
        self.pieces += bool(text)
        self._room -= len(text)
        if self._room < 0:
            raise NodeBroken("it sends more text than it was asked for")
        return text


T = TypeVar("T")
GENERATED = msgspec.json.Decoder(Generated)
TOKEN = msgspec.json.Decoder(Token)
CHUNK = msgspec.json.Decoder(Chunk)


def decoded(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """The data in its form. Raises NodeBroken."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as problem:
        raise NodeBroken("its answer is not of its protocol") from problem


def counted(figure: int | None) -> int | None:
    """A node's figure, unless it can't be one."""
    return figure if figure is not None and figure >= 0 else None


def _without_special(text: str) -> str:
    while ending := next((token for token in SPECIAL if text.endswith(token)), ""):
        text = text.removesuffix(ending)
    return text
