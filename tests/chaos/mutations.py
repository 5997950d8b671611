"""The settler and the ledger with one of their precautions taken away, to show that chaos finds it."""

from __future__ import annotations

from pathlib import Path


def apply(name: str | None, folder: Path) -> None:
    """Changes this process, and no other."""
