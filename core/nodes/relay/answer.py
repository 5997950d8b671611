"""An agent's answer, frame by frame, as text."""

from __future__ import annotations

import msgspec

from core.nodes.transport.answers import Chunk, InputsAnswer, counted, decoded
from core.nodes.transport.failures import NodeBroken, NodeFailed
from core.nodes.transport.refusal import CONTEXT, refusal


class AnswerFrame(Chunk):
    """A frame that belongs to a request; a `response` is an OpenAI answer besides."""

    type: str = ""
    content: str = ""
    message: str = ""


FRAME = msgspec.json.Decoder(AnswerFrame)


class RelayAnswer(InputsAnswer):
    """Agents behind the relay: like plumise-agent they know no stop sequences and name no finish reason."""

    def event(self, data: bytes) -> str:
        frame = decoded(FRAME, data)
        if frame.type == "chunk":
            return self.add(frame.content)
        self._ensure("done", frame)
        self.tokens = None if frame.usage is None else counted(frame.usage.completion_tokens)
        return self.finish()

    def whole(self, body: bytes) -> str:
        frame = decoded(FRAME, body)
        self._ensure("response", frame)
        if not frame.choices or frame.choices[0].message is None:
            raise NodeFailed("it sent no choice")
        text = self.add(frame.choices[0].message.content or "")
        self.tokens = None if frame.usage is None else counted(frame.usage.completion_tokens)
        return text + self.finish()

    def _ensure(self, kind: str, frame: AnswerFrame) -> None:
        if frame.type == "error":
            # An error has no status: a prompt that does not fit must not count against one agent after the other.
            if CONTEXT.search(frame.message):
                raise refusal(frame.message.encode())
            raise NodeFailed("it sent an error")
        if frame.type != kind:
            raise NodeBroken("its answer is not of its protocol")
