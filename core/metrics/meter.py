"""How many tokens an answer took: the node's figure where it can be true, our own estimate elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

from core.inference.completion import Usage
from core.inference.requests import InferenceRequest

ASCII, LATIN, WIDE = 0.25, 0.5, 1.5  # tokens a character; measured on the tokenizers of the served models' families


def estimate(text: str) -> int:
    """Tokens of a text whose tokenizer is not known: a plain length is wrong six- to eightfold for Korean."""
    if text.isascii():
        return math.ceil(len(text) * ASCII)
    weights = (ASCII if char < "\x80" else LATIN if char < "\u0250" else WIDE for char in text)
    return math.ceil(sum(weights))


def prompt_text(request: InferenceRequest) -> Sequence[str]:
    """What the model is given to read."""
    if request.prompt is not None:
        return (request.prompt,)
    return [message.content for message in request.messages or ()]


def prompt_tokens(request: InferenceRequest, context_length: int) -> int:
    """Our own estimate of what the model reads. No prompt is longer than its context."""
    return min(sum(map(estimate, prompt_text(request))), context_length)


class Meter:
    """
    Counts one answer while it passes: `pieces` are the node's token events.

    Of an answer that `is_paid` our own count is the most: a node can't make its users pay more, only less.
    """

    __slots__ = ("_bytes", "_context_length", "_is_paid", "_max_tokens", "_only_piece", "_pieces", "_request")

    def __init__(
        self, request: InferenceRequest, max_tokens: int, context_length: int, *, is_paid: bool = False
    ) -> None:
        self._is_paid = is_paid
        self._request = request
        self._max_tokens = max_tokens
        self._context_length = context_length
        self._pieces = 0
        self._bytes = 0
        self._only_piece = ""

    def add(self, pieces: Sequence[str]) -> None:
        """Takes note of text that is about to leave."""
        if self._pieces == 0:
            self._only_piece = pieces[0]
        self._pieces += len(pieces)
        self._bytes += sum(map(len, pieces))

    def usage(self, reported: int | None = None, reported_prompt: int | None = None) -> Usage:
        """
        The tokens so far.

        A node's own figure counts if the text can have so many tokens: a token is at least a byte. Without one,
        each event is a token, but a node that sends its whole answer as one event has it estimated. No prompt is
        longer than the model's context.
        """
        counted = self._pieces if self._pieces > 1 else estimate(self._only_piece)
        ceiling = max(4 * self._bytes, self._pieces)  # a character is up to four bytes
        if self._is_paid:
            ceiling = min(ceiling, counted)
        completion = min(counted if reported is None else reported, ceiling, self._max_tokens)
        return self._usage(reported_prompt, completion)

    def _usage(self, reported_prompt: int | None, completion: int) -> Usage:
        if reported_prompt and not self._is_paid:
            prompt = min(reported_prompt, self._context_length)
        else:
            own = prompt_tokens(self._request, self._context_length)
            prompt = min(reported_prompt or own, own)
        return Usage(prompt, completion, prompt + completion)
