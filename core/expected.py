"""What is to be expected of the world outside."""

from __future__ import annotations


class Expected(Exception):
    """Something that others offer fails; the text says all that there is to say, and a traceback nothing more."""
