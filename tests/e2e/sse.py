"""A client of one slow stream, byte by byte as it comes."""

from __future__ import annotations

import http.client
from types import TracebackType
from typing import Self


class Stream:
    """An open GET: its first event has come when the `with` block begins."""

    def __init__(self, port: int, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._connection.request("GET", path)
        self._response = self._connection.getresponse()
        self.events = [self._event()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def rest(self) -> list[str]:
        """All events, once the stream has ended properly. Raises IncompleteRead when it was cut."""
        text = self._response.read().decode()
        self.events += [event for event in text.split("\n\n") if event]
        return self.events

    def _event(self) -> str:
        lines = iter(lambda: self._response.readline().decode().rstrip("\n"), "")
        return "\n".join(lines)
