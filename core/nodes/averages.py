"""Averages of a node's figures that follow it as it changes."""

from __future__ import annotations

WEIGHT = 0.2  # of a new figure


def follow(before: float, figure: float) -> float:
    """The average after one more figure; 0 means that there was none before."""
    return before + WEIGHT * (figure - before) if before else figure
