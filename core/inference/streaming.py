"""One answer on its way: pieces of text from a node, measured as they pass, settled at the end."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from core.access.grant import Grant
from core.clock import Clock
from core.errors import AnswerLeft, GatewayError
from core.inference.completion import Completion, Paid, Usage, told
from core.inference.recordings import UNRECORDED, Recorder
from core.inference.tally import Tally
from core.metrics.meter import Meter
from core.nodes.router import NodeStream
from core.nodes.work import Offer, refuse


class AnswerStream(Protocol):
    """An answer in pieces, as doors send it: one on its way, or one that is given again."""

    grant: Grant
    created: int  # unix seconds
    is_replay: bool

    @property
    def completion(self) -> Completion:
        """How it ended, once it is exhausted."""
        ...

    async def flow(self, offer: Offer) -> list[str]:
        """Offers pieces of text as they come; those that are not taken, none at the end. Raises GatewayError."""
        ...


class CompletionStream:
    """
    An answer in lists of text pieces; a piece is one token event of the node.

    When it is exhausted the answer is already counted and `completion` is set. A failure comes out as NodesFailed,
    once; what was delivered until then is counted.
    """

    __slots__ = (
        "_completion", "_first", "_meter", "_offer", "_over", "_paid", "_recorder", "_source", "_started",
        "_tally", "created", "grant",
    )  # fmt: skip

    is_replay = False

    def __init__(
        self,
        grant: Grant,
        source: NodeStream,
        tally: Tally,
        meter: Meter,
        clock: Clock,
        recorder: Recorder = UNRECORDED,
    ) -> None:
        self.grant = grant
        self.created = int(clock.now())
        self._completion: Completion | None = None
        self._paid: Paid | None = None  # for what left of one that did not come to its end
        self._source = source
        self._tally = tally
        self._meter = meter
        self._recorder = recorder
        self._offer: Offer = refuse
        self._first: asyncio.Task[list[str]] | None = None
        self._started = self._over = False

    @property
    def completion(self) -> Completion:
        """How it ended. Raises RuntimeError before the last piece."""
        if self._completion is None:
            raise RuntimeError("the stream has not ended")
        return self._completion

    @property
    def is_over(self) -> bool:
        """Whether it has come to its end, or has failed, and nothing of it is under way: there is nothing to close."""
        return self._over and self._first is None

    @property
    def usage(self) -> Usage:
        """What has passed so far; of a stream that has ended in any way, what was counted, with its price."""
        completion = self._completion
        return told(self._meter.usage(), self._paid) if completion is None else completion.told_usage

    async def wait_for_text(self, patience_s: float) -> None:
        """Returns when the first text is there or time is up. Raises what kept the text from coming."""
        self._first = asyncio.ensure_future(self._read(refuse))
        await asyncio.wait({self._first}, timeout=patience_s)
        if self._first.done() and not self._first.cancelled() and (failure := self._first.exception()) is not None:
            raise failure

    async def flow(self, offer: Offer) -> list[str]:
        """
        Offers pieces as they come in, without a change of tasks, and goes on while they are taken.

        The result is what was not taken, and nothing at the end. Every piece is offered once.
        """
        first, self._first = self._first, None
        if first is not None:
            pieces = await first
            first = None  # a task that is done would be held for as long as the answer flows
            if not (pieces and offer(pieces)):
                return pieces
        return await self._read(offer)

    async def aclose(self) -> None:
        """Ends the node's work and settles; to be called however it ended, more than once is harmless."""
        if self._first is not None:
            self._first.cancel()
            await asyncio.gather(self._first, return_exceptions=True)
        await self._source.aclose()
        if self._over:
            return
        self._over = True
        if self._started:
            await self._commit_delivered(AnswerLeft())
        else:
            await self._tally.keep()

    async def _read(self, offer: Offer) -> list[str]:
        self._offer = offer
        try:
            pieces = await self._source.flow(self._pass_on)
        except GatewayError as error:
            await self._fail(error)
            raise
        finally:
            self._offer = refuse
        if not pieces:
            await self._finish()
        return pieces

    def _pass_on(self, pieces: list[str]) -> bool:
        """They are about to leave."""
        self._meter.add(pieces)
        self._recorder.add(pieces)
        if not self._started:
            self._started = True
            self._tally.delivered(self._meter, self._source.answer.node)
        elif self.grant.charge is not None:
            self._tally.passed(len(pieces), self._meter, self._source.answer.node)
        return self._offer(pieces)

    async def _finish(self) -> None:
        answer = self._source.answer
        usage = self._meter.usage(answer.tokens, answer.prompt_tokens)
        reason = answer.finish_reason or "stop"
        completion = self._completion = Completion(self.grant, self.created, "", reason, usage)
        self._over = True
        paid = await self._tally.commit(usage, answer.node, self._recorder.end(self.grant, self.created, usage, reason))
        self._completion = msgspec.structs.replace(completion, paid=paid)

    async def _fail(self, error: GatewayError) -> None:
        self._over = True
        if self._started:
            await self._commit_delivered(error)
        else:
            await self._tally.hand_back()

    async def _commit_delivered(self, error: GatewayError) -> None:
        usage = self._meter.usage()
        kept = self._recorder.end(self.grant, self.created, usage, error)
        self._paid = await self._tally.commit(usage, self._source.answer.node, kept)
