"""The steps of the work with money, by name: whoever watches them may end the process between any two."""

from __future__ import annotations

from collections.abc import Callable

Step = Callable[[str], None]


def unwatched(name: str) -> None:
    """Nobody watches."""
