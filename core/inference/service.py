"""
The steps of one request: the gate, the node, the count. Doors parse before it and format after it.

Nothing is promised before the first piece of text: until then another node is tried and a failure has its true
status. What was used is counted before the last byte of an answer leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.access.admission import Admission
from core.access.grant import Grant
from core.auth.caller import Caller
from core.billing.ledger import Ledger
from core.clock import Clock
from core.errors import GatewayError
from core.inference.completion import Completion
from core.inference.prompts import ROLE_STOPS, chat_prompt
from core.inference.recordings import UNRECORDED, Recorder
from core.inference.requests import InferenceRequest
from core.inference.streaming import CompletionStream
from core.inference.tally import Tally
from core.metrics.meter import Meter
from core.nodes.router import NodeRouter
from core.nodes.work import Work


class InferenceService:
    """Serves requests, whole or streamed. `patience_s`: how long a stream's status waits for the first text."""

    def __init__(
        self, admission: Admission, router: NodeRouter, ledger: Ledger, clock: Clock, *, patience_s: float
    ) -> None:
        self._admission = admission
        self._router = router
        self._ledger = ledger
        self._clock = clock
        self._patience_s = patience_s

    async def complete(self, caller: Caller, request: InferenceRequest, recorder: Recorder = UNRECORDED) -> Completion:
        """
        The whole answer, which `recorder` keeps for whom asks again.

        Raises the gate's errors, NoNodes, NodesFailed or NodeRefused; then nothing is counted. A caller who leaves
        (cancellation) keeps his request counted: the nodes have worked for him.
        """
        grant = await self._admission.admit(caller, request)
        tally, meter = Tally(self._ledger, grant), _meter(request, grant)
        try:
            answer = await self._router.complete(work_for(request, grant))
        except GatewayError:
            await tally.hand_back()
            raise
        except asyncio.CancelledError:
            await tally.keep()
            raise
        meter.add([answer.text])
        usage = meter.usage(answer.tokens, answer.prompt_tokens)
        created, reason = int(self._clock.now()), answer.finish_reason or "stop"
        recorder.add([answer.text])
        paid = await tally.commit(usage, answer.node, recorder.end(grant, created, usage, reason))
        return Completion(grant, created, answer.text, reason, usage, paid)

    @asynccontextmanager
    async def stream(
        self, caller: Caller, request: InferenceRequest, recorder: Recorder = UNRECORDED
    ) -> AsyncIterator[CompletionStream]:
        """
        The answer in pieces, once the first one is there or `patience_s` have passed.

        Raises as `complete` does while nothing has left. Leaving the context ends the node's work at once and
        counts what was delivered.
        """
        grant = await self._admission.admit(caller, request)
        stream = CompletionStream(
            grant,
            self._router.stream(work_for(request, grant)),
            Tally(self._ledger, grant),
            _meter(request, grant),
            self._clock,
            recorder,
        )
        try:
            await stream.wait_for_text(self._patience_s)
            yield stream
        finally:
            if not stream.is_over:
                await asyncio.shield(stream.aclose())


def _meter(request: InferenceRequest, grant: Grant) -> Meter:
    return Meter(request, grant.max_tokens, grant.model.context_length, is_paid=grant.charge is not None)


def work_for(request: InferenceRequest, grant: Grant) -> Work:
    """The request as nodes are asked it."""
    is_chat = request.is_chat
    messages = request.messages or ()
    return Work(
        model=grant.model.id,
        messages=messages if is_chat else None,
        prompt=chat_prompt(messages) if is_chat else request.prompt or "",
        max_tokens=grant.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        stop=request.stop,
        inputs_stop=(*request.stop, *ROLE_STOPS) if is_chat else request.stop,
    )
