"""What one run of chaos does, and the places where its processes die."""

from __future__ import annotations

from dataclasses import dataclass

SETTLER_POINTS = (
    "before_plan", "planned", "signed", "journaled", "sent", "bump_signed", "bump_journaled", "bump_sent",
    "confirmed", "final", "recover_epoch", "recover_burning", "recover_burned", "recover_read", "recover_written",
)  # fmt: skip
WORKER_POINTS = (
    "before_reserve", "reserved", "before_checkpoint", "checkpointed", "before_commit", "committed", "delivered",
    "spooling", "spooled", "replaying", "replayed",
)  # fmt: skip
POINTS = SETTLER_POINTS + WORKER_POINTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run. Everything that is left to chance follows from the seed, but for the order of the processes."""

    seed: int
    seconds: float  # of trouble; it takes as long as it takes to drain
    points: tuple[str, ...] = POINTS  # each is to be passed by a process that dies of it
    scenario: str | None = None  # a course of events instead of chance
    mutation: str | None = None  # what the processes do without
    settlers: int = 2
    workers: int = 2
    redis_kills: bool = True
    confirmations: int = 2
    drain_s: float = 90.0  # at the most
