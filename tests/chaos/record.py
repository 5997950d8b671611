"""What the clients got, as they themselves would tell it: a file that outlives every process."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Answer:
    """One request. Tokens are those of the prompt and of all pieces."""

    user: str = ""
    least: int = 0  # the ledger has taken note of so many
    most: int = 0  # so many may have been delivered
    delivered: int | None = None  # the whole answer; None when its worker died before


@dataclass(frozen=True, slots=True)
class Record:
    """One line a word; a line is written by one system call, so that none is torn."""

    path: Path

    def write(self, word: str, request_id: str, user: str, tokens: int) -> None:
        """`word` is "most", "least" or "delivered"."""
        self._append(self.path, f"{word} {request_id} {user} {tokens}\n")

    def die(self, point: str) -> None:
        """The process is about to be killed at this point."""
        self._append(self._deaths, f"{point}\n")

    def crash(self, trace: str) -> None:
        """The process ends by a fault of its own."""
        self._append(self._crashes, trace)

    def crashes(self) -> list[str]:
        """All traces, line by line."""
        return self._crashes.read_text().splitlines() if self._crashes.exists() else []

    def answers(self) -> dict[str, Answer]:
        """By request id."""
        answers: dict[str, Answer] = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            word, request_id, user, tokens = line.split()
            answer = answers.setdefault(request_id, Answer(user))
            setattr(answer, word, int(tokens))
        return answers

    def deaths(self) -> Counter[str]:
        """How many died where."""
        return Counter(self._deaths.read_text().split("\n")[:-1] if self._deaths.exists() else [])

    @property
    def _deaths(self) -> Path:
        return self.path.with_name("deaths")

    @property
    def _crashes(self) -> Path:
        return self.path.with_name("crashes")

    @staticmethod
    def _append(path: Path, line: str) -> None:
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)
