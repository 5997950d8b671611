"""Inference that may be asked for again under an Idempotency-Key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.auth.caller import Caller
from core.inference.completion import Completion
from core.inference.idempotency import IdempotencyKey, IdempotencyKeys
from core.inference.recordings import Recording, Replay
from core.inference.requests import InferenceRequest
from core.inference.service import InferenceService
from core.inference.streaming import AnswerStream


class RepeatableInference:
    """
    The inference service for doors that take the header; without a key it is just that service.

    With one it raises the errors of `IdempotencyKeys.opened`, too, before anything is served.
    """

    def __init__(self, inference: InferenceService, keys: IdempotencyKeys) -> None:
        self._inference = inference
        self._keys = keys

    async def complete(self, caller: Caller, request: InferenceRequest, key: IdempotencyKey | None) -> Completion:
        """The whole answer, of now or of the first time."""
        if key is None:
            return await self._inference.complete(caller, request)
        async with self._keys.opened(caller, key) as opened:
            if isinstance(opened, Recording):
                return opened.completion(caller)
            return await self._inference.complete(caller, request, opened)

    @asynccontextmanager
    async def stream(
        self, caller: Caller, request: InferenceRequest, key: IdempotencyKey | None
    ) -> AsyncIterator[AnswerStream]:
        """The answer in pieces, of now or of the first time."""
        if key is None:
            async with self._inference.stream(caller, request) as stream:
                yield stream
            return
        async with self._keys.opened(caller, key) as opened:
            if isinstance(opened, Recording):
                yield Replay(opened, caller)
                return
            async with self._inference.stream(caller, request, opened) as stream:
                yield stream
