"""A commit as data: it can be run again, written into a file, and taken over by another process."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

CHARGE: Final = "charge"


class Commit(msgspec.Struct, frozen=True):
    """One call of a script that counts an answer. It is idempotent: however often it runs, it counts once."""

    script: Literal["commit", "charge"]
    keys: list[str]
    args: list[str | int]

    def again(self) -> Commit:
        """The same, marked as one that may have run before."""
        return Commit(self.script, self.keys, ["1", *self.args[1:]]) if self.script == CHARGE else self
