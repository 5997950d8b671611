"""Answers that are kept for whom asks again: recorded while they are made, and given once more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import msgspec

from core.access.grant import Grant
from core.auth.caller import Caller
from core.billing.ledger import KeptAnswer
from core.catalog import Model, Tier
from core.errors import AnswerFailed, GatewayError
from core.inference.completion import Completion, FinishReason, Usage
from core.nodes.work import Offer

LIFE_S = 24 * 3600


class Failure(msgspec.Struct, frozen=True):
    """The error that an answer broke off with."""

    code: str | None
    message: str


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """An answer with all that a client was told of it."""

    fingerprint: str  # of its request
    request_id: str
    tier: Tier
    model: Model
    max_tokens: int
    created: int  # unix seconds
    pieces: list[str]  # as they left
    usage: Usage
    end: FinishReason | Failure

    @classmethod
    def read(cls, value: str) -> Self | None:
        """One that was kept; None when the value is none."""
        try:
            return msgspec.json.decode(value, type=cls)
        except msgspec.DecodeError:
            return None

    def grant(self, caller: Caller) -> Grant:
        """What it was given under; there is no quota, since nothing is counted."""
        return Grant(self.request_id, caller, self.tier, self.model, self.max_tokens, None)

    def completion(self, caller: Caller) -> Completion:
        """The whole answer. Raises AnswerFailed when there is none."""
        if isinstance(self.end, Failure):
            raise AnswerFailed(self.end.code, self.end.message)
        text = "".join(self.pieces)
        return Completion(self.grant(caller), self.created, text, self.end, self.usage, is_replay=True)


class Replay:
    """A recording in the place of a stream: the same pieces, and the same end."""

    is_replay = True

    def __init__(self, recording: Recording, caller: Caller) -> None:
        self.grant = recording.grant(caller)
        self.created = recording.created
        self._recording = recording
        self._caller = caller
        self._pieces = recording.pieces

    @property
    def completion(self) -> Completion:
        """How it ended."""
        return self._recording.completion(self._caller)

    async def flow(self, offer: Offer) -> list[str]:
        """Offers all that there is at once. Raises AnswerFailed behind it when it broke off."""
        pieces, self._pieces = self._pieces, []
        if pieces and not offer(pieces):
            return pieces
        if isinstance(failure := self._recording.end, Failure):
            raise AnswerFailed(failure.code, failure.message)
        return []


class Recorder(Protocol):
    """Hears an answer being made; what it returns at the end is kept with the count of it."""

    def add(self, pieces: Sequence[str]) -> None:
        """Takes note of text that is about to leave."""
        ...

    def end(self, grant: Grant, created: int, usage: Usage, end: FinishReason | GatewayError) -> KeptAnswer | None:
        """Takes note of how the answer ends, and when it was made (unix seconds)."""
        ...


class NoRecorder:
    """For answers that nobody can ask for again."""

    def add(self, pieces: Sequence[str]) -> None:
        pass

    def end(self, grant: Grant, created: int, usage: Usage, end: FinishReason | GatewayError) -> None:
        return None


UNRECORDED = NoRecorder()


class KeyedRecorder:
    """Records the answer to the request of one fingerprint, to be kept at a Redis key."""

    def __init__(self, redis_key: str, fingerprint: str) -> None:
        self.has_ended = False
        self._redis_key = redis_key
        self._fingerprint = fingerprint
        self._pieces: list[str] = []

    def add(self, pieces: Sequence[str]) -> None:
        self._pieces += pieces

    def end(self, grant: Grant, created: int, usage: Usage, end: FinishReason | GatewayError) -> KeptAnswer:
        self.has_ended = True
        if grant.charge is not None:
            usage = usage.priced(grant.charge.cost(usage.total_tokens))
        recording = Recording(
            fingerprint=self._fingerprint,
            request_id=grant.request_id,
            tier=grant.tier,
            model=grant.model,
            max_tokens=grant.max_tokens,
            created=created,
            pieces=self._pieces,
            usage=usage,
            end=Failure(end.code, end.text) if isinstance(end, GatewayError) else end,
        )
        return KeptAnswer(self._redis_key, msgspec.json.encode(recording).decode(), LIFE_S)
