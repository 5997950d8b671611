"""A plain HTTP client that sends just what it is told, and a reader of event streams that sees every byte."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

JSON = {"Content-Type": "application/json"}
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Answer:
    """A whole answer; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    id: str
    data: str
    name: str = "message"


class Stream:
    """An answer that is still coming."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = b""

    def read_until(self, mark: bytes) -> bytes:
        """All that has come when the mark is among it. Raises EOFError when the answer ends before."""
        while mark not in self.body:
            if not self._more():
                raise EOFError(self.body)
        return self.body

    def read_all(self) -> bytes:
        """Everything. Raises http.client.IncompleteRead when the body is cut off."""
        while self._more():
            pass
        return self.body

    def _more(self) -> bool:
        part = self._response.read1(65_536)
        self.body += part
        return bool(part)


def call(
    url: str, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | str | None = None
) -> Answer:
    """One request on a new connection."""
    with _asked(url, method, path, headers, body) as response:
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())


def post(url: str, path: str, body: Any, token: str | None = None) -> Answer:
    """POST of a JSON value."""
    return call(url, "POST", path, headers=JSON | bearer(token), body=json.dumps(body))


@contextmanager
def streamed(
    url: str, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | str | None = None
) -> Iterator[Stream]:
    """One request whose answer is read as it comes; leaving closes the connection."""
    with _asked(url, method, path, headers, body) as response:
        yield Stream(response)


def bearer(token: str | None) -> dict[str, str]:
    """The Authorization header; none without a token."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def events(body: bytes) -> list[Event]:
    """The events of a stream, as the standard reads them (WHATWG HTML 9.2.6)."""
    found = []
    for block in re.split(r"\n\n+", body.decode().strip("\n")):
        fields: dict[str, list[str]] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        if "data" in fields:
            name = fields.get("event", ["message"])[-1]
            found.append(Event(fields.get("id", [""])[-1], "\n".join(fields["data"]), name))
    return found


def eventually_none_work(node: Any, within_s: float = 1.0) -> None:
    """Waits until a scripted node makes no answer any more. Raises AssertionError when it still does."""
    deadline = time.monotonic() + within_s
    while node.working:
        assert time.monotonic() < deadline, f"the node still works after {within_s} s"
        time.sleep(0.005)


@contextmanager
def _asked(
    url: str, method: str, path: str, headers: Mapping[str, str] | None, body: bytes | str | None
) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)
    try:
        data = body.encode() if isinstance(body, str) else body
        connection.request(method, path, body=data, headers=dict(headers or {}))
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()
