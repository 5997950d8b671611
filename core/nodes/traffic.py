"""How nodes fare with our requests: what each worker tells of its own, and what that makes of all of them."""

from __future__ import annotations

import logging

import msgspec

from core.nodes.ejection import Standing

PURPOSE = "traffic"  # of the bus' topic

log = logging.getLogger(__name__)


class Traffic(msgspec.Struct, frozen=True, omit_defaults=True):
    """One node as the requests of the whole fleet have met it. Averages move by a fifth with each report."""

    in_flight: int = 0  # requests that it serves now
    first_token_ms: float = 0.0  # from the request to the first text of a stream, on average; 0 when unknown
    tokens_per_s: float = 0.0  # of one answer, from request to end, on average; 0 when unknown
    last_answer: float = 0.0  # unix seconds
    standing: Standing = Standing()


class Tally(msgspec.Struct, array_like=True):
    """What the requests of one worker to one node have come to since the worker's last report."""

    url: str
    in_flight: int = 0  # now
    answers: int = 0
    failures: int = 0
    row: int = 0  # failures since the last answer
    tokens: int = 0  # of the answers
    duration_s: float = 0.0  # of the answers, in sum
    streams: int = 0  # that began
    first_token_s: float = 0.0  # of those, in sum
    moves: int = 0  # pieces of text that came

    @property
    def has_news(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.in_flight or self.answers or self.failures or self.streams or self.moves)


class TrafficReport(msgspec.Struct, array_like=True):
    """One worker's tallies; nodes that are not in it have none of its requests."""

    worker_id: str
    tallies: list[Tally]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(TrafficReport)
encode = _encoder.encode


def decode(message: bytes) -> TrafficReport | None:
    """A report; None for what is none, as in the moments when two versions of the gateway run."""
    try:
        return _decoder.decode(message)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        log.warning("a report on the nodes' traffic can't be read")
        return None
