"""The Oracle's HTTP interface: JSON both ways, within a deadline and a size."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

TIMEOUT_S = 5.0  # for all of it, from connecting to the last byte
MAX_BODY = 2 * 1024 * 1024  # bytes
CONNECTIONS = 8
HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "plumise-inference-api"}


class OracleUnavailable(Exception):
    """The Oracle gave no answer that can be used; the text is a few words for the log, none of them its own."""


@dataclass(frozen=True, slots=True)
class OracleAnswer:
    """What a POST came to."""

    status: int
    body: Any  # decoded JSON; None when there is none, or too much of it


class OracleClient:
    """
    Asks the one Oracle that the operator names; its address may be private.

    No redirects are followed, nothing compressed is unpacked, no cookies are kept, and no proxy of the environment is
    used: what the Oracle says is as untrusted as what a stranger says.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def get(self, path: str, **query: str) -> Any:
        """The decoded JSON of a 2xx. Raises OracleUnavailable."""
        status, body = await self._ask("GET", path, params=query)
        if not 200 <= status < 300:
            raise OracleUnavailable(f"it answered {status}")
        if body is None:
            raise OracleUnavailable("its answer is too large")
        try:
            return msgspec.json.decode(body)
        except (ValueError, RecursionError):
            raise OracleUnavailable("its answer is not JSON") from None

    async def post(self, path: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> OracleAnswer:
        """
        The answer, whatever its status.

        The body goes out as the stdlib's compact JSON in UTF-8, the bytes that signatures are made over. Raises
        OracleUnavailable only when there was no answer: then it may have been received all the same.
        """
        data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        status, answer = await self._ask("POST", path, data=data, headers=sent)
        try:
            return OracleAnswer(status, msgspec.json.decode(answer or b""))
        except (ValueError, RecursionError):
            return OracleAnswer(status, None)

    async def _ask(self, method: str, path: str, **how: Any) -> tuple[int, bytes | None]:
        try:
            async with self._session.request(method, self._url + path, allow_redirects=False, **how) as answer:
                return answer.status, await _body(answer)
        except TimeoutError:
            raise OracleUnavailable("it did not answer in time") from None
        except (aiohttp.ClientConnectionError, OSError):
            raise OracleUnavailable("no connection") from None
        except (aiohttp.ClientError, ValueError):
            raise OracleUnavailable("it does not speak HTTP") from None


@asynccontextmanager
async def open_oracle(url: str, timeout_s: float = TIMEOUT_S) -> AsyncIterator[OracleClient]:
    """The client of the Oracle at `url`; it does not wait for the Oracle to be there."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        auto_decompress=False,
        headers=HEADERS,
    ) as session:
        yield OracleClient(session, url)


def no_redirects() -> aiohttp.TraceConfig:
    """Ends a request at a redirect, also one that a library makes."""
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse_redirect)
    return trace


async def _refuse_redirect(*_: object) -> None:
    raise aiohttp.ClientError("it redirects")


async def _body(answer: aiohttp.ClientResponse) -> bytes | None:
    """The whole body; None as soon as it is too large."""
    body = bytearray()
    async for part in answer.content.iter_any():
        body += part
        if len(body) > MAX_BODY:
            return None
    return bytes(body)
