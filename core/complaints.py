"""What the former service said of a field that is wrong: a field's last rule first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

LARGEST = 2**53 - 1  # a larger whole number is not exact for JavaScript


def text(name: str, value: Any, longest: int) -> Iterator[str]:
    """Unless it is a string of at most so many characters."""
    is_text = isinstance(value, str)
    if not is_text or len(value) > longest:
        yield f"{name} must be shorter than or equal to {longest} characters"
    if not is_text:
        yield f"{name} must be a string"


def number(name: str, value: Any, least: int, most: int = LARGEST) -> Iterator[str]:
    """Unless it is a number within the bounds."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or value > most:
        yield f"{name} must not be greater than {most}"
    if not is_number or value < least:
        yield f"{name} must not be less than {least}"
    if not is_number:
        yield f"{name} must be a number conforming to the specified constraints"
