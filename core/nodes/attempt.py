"""One attempt at one node: sends the work, and reads its answer whole or piece by piece."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from core.nodes.node import Node, NodeKind
from core.nodes.relay.answer import RelayAnswer
from core.nodes.transport.answers import Answer, CompletionAnswer, InputsAnswer
from core.nodes.transport.failures import NodeBroken, NodeFailed
from core.nodes.transport.refusal import MAX_BODY, refusal
from core.nodes.transport.sse import EventFraming
from core.nodes.transport.transports import NodeExchange, NodeTransport
from core.nodes.transport.wire import MAX_JSON, request
from core.nodes.work import NodeAnswer, Offer, Work, refuse

REFUSALS = (400, 413, 422)  # the request's fault; any other 4xx is the node's: a wrong path, secret, model or load
ANSWERS: dict[NodeKind, type[Answer]] = {
    NodeKind.PETALS: InputsAnswer,
    NodeKind.AGENT: InputsAnswer,
    NodeKind.OPENAI: CompletionAnswer,
    NodeKind.RELAY: RelayAnswer,
}


def answer_to(work: Work, kind: NodeKind) -> Answer:
    """An empty answer in a node's protocol."""
    return ANSWERS[kind](work)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a node may take, in seconds. All attempts of one request share the total."""

    first_token_s: float  # to the first event of a stream; a node that can't stream has the total
    token_s: float  # from one event to the next
    total_s: float


class Attempt:
    """
    One request, served by one node: `whole`, or `open` and then `flow` until it gives nothing.

    They raise NodeFailure (the node's fault), NodeRefused (the request's fault), or what the transport was interrupted
    with; failed or cancelled, they have closed the connection already.
    """

    __slots__ = (
        "_answer", "_answering", "_begun", "_exchange", "_failure", "_first_due", "_framing", "_kind", "_offer",
        "_refused", "_time", "_timeouts", "_transport", "_until", "_work", "first", "node", "text",
    )  # fmt: skip

    def __init__(self, node: Node, work: Work, transport: NodeTransport, timeouts: Timeouts, until: float) -> None:
        self.node = node
        self.text = ""  # of a whole answer
        self.first: list[str] = []  # pieces of a stream
        self._work = work
        self._kind = node.kind or NodeKind.PETALS
        self._transport = transport
        self._timeouts = timeouts
        self._until = until
        self._time = asyncio.get_running_loop().time
        self._first_due = min(self._time() + timeouts.first_token_s, until) if node.streams else until
        self._answer = answer_to(work, self._kind)
        self._framing = EventFraming()
        self._exchange: NodeExchange | None = None
        self._failure: NodeFailed | None = None  # met behind pieces that are handed out first
        self._offer: Offer = refuse
        self._refused: list[str] = []
        self._answering = self._begun = False

    async def whole(self) -> None:
        """Fills `text`."""
        try:
            self.text = await self._read_whole(await self._send(self._until, stream=False))
        finally:
            self.close()

    async def open(self) -> None:
        """Fills `first`; it stays empty only when the answer is rightly empty."""
        try:
            exchange = await self._send(self._due(), stream=True)
            media_type = exchange.headers.get(b"content-type", b"").lower()
            if media_type.startswith(b"text/event-stream"):
                self.first = await self._flow(exchange)
            elif media_type.startswith(b"application/json"):
                text = await self._read_whole(exchange)  # Petals, whatever was asked
                self.first = [text] if text else []
            else:
                raise NodeFailed("it answered with neither JSON nor events")
        except BaseException:
            self.close()
            raise
        self._begun = True

    async def flow(self, offer: Offer) -> list[str]:
        """Offers pieces as they come; the first that are not taken, or none when the answer has ended."""
        if self._answer.ended or self._exchange is None:
            return []
        self._offer = offer
        try:
            return await self._flow(self._exchange)
        except BaseException:
            self.close()
            raise
        finally:
            self._offer = refuse

    def close(self) -> None:
        """Ends the node's work if it has not ended by itself."""
        if self._exchange is not None:
            self._exchange.abort()

    def result(self) -> NodeAnswer:
        """What there is of the answer."""
        answer = self._answer
        return NodeAnswer(
            self.node, self.text, answer.finish_reason, answer.tokens, answer.prompt_tokens, answer.pieces
        )

    async def _send(self, until: float, *, stream: bool) -> NodeExchange:
        model = self.node.models[self._work.model]
        asked = request(self._work, self._kind, model, stream=stream)
        self._exchange = exchange = await self._transport.post(self.node.url, asked, until)
        if exchange.status in REFUSALS:
            refused = refusal(await exchange.read(MAX_BODY, until))
            exchange.release()
            raise refused
        if not 200 <= exchange.status < 300:
            raise NodeFailed(f"it answered {exchange.status}")
        if exchange.headers.get(b"content-encoding", b"identity") != b"identity":
            raise NodeBroken("its answer is compressed")
        return exchange

    async def _read_whole(self, exchange: NodeExchange) -> str:
        text = self._answer.whole(await exchange.read(MAX_JSON, self._until))
        self._end(exchange)
        return text

    async def _flow(self, exchange: NodeExchange) -> list[str]:
        if self._failure is not None:
            raise self._failure
        self._refused = []
        await exchange.flow(self._take, self._due())
        if not (self._refused or self._answer.ended):
            raise NodeBroken("its stream has no end mark")
        return self._refused

    def _take(self, chunk: bytes) -> bool:
        """The way of each token: it runs where its bytes come in, and does not wait."""
        events, exchange = self._framing.feed(chunk), self._exchange
        if not events or exchange is None:  # comments buy no time; events without text do, since the node is thinking
            return True
        texts = self._texts(exchange, events)
        if texts and not self._offer(texts):
            self._refused = texts
            return False
        if self._failure is not None:
            raise self._failure
        self._answering = True
        exchange.extend(self._due())
        return not self._answer.ended

    def _texts(self, exchange: NodeExchange, events: list[bytes]) -> list[str]:
        texts: list[str] = []
        for data in events:
            try:
                text = self._answer.event(data)
            except NodeFailed as failure:
                if not (self._begun and texts):
                    raise
                self._failure = failure
                break
            if text:
                texts.append(text)
            if self._answer.ended:
                self._end(exchange)
                break
        return texts

    def _end(self, exchange: NodeExchange) -> None:
        if not (self._answer.pieces or self._answer.may_be_empty):
            raise NodeFailed("its answer is empty")
        if self._answer.cut and self._kind is not NodeKind.OPENAI:
            exchange.abort()
        else:
            exchange.release()

    def _due(self) -> float:
        if not (self._begun or self._answering):
            return self._first_due
        return min(self._time() + self._timeouts.token_s, self._until)
