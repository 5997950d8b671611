"""A lean JSON-RPC client: one HTTP request for each call, within a deadline, a size, and few at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

TIMEOUT_S = 3.0  # for all of it, waiting in line included
AT_ONCE = 8
MAX_BODY = 1024 * 1024  # bytes
REVERTED = 3  # geth's error code
# What geth says of a call that the contract itself failed; everything else is the endpoint's fault.
CALL_FAULTS = (
    "revert",
    "out of gas",
    "outofgas",
    "gas required exceeds",
    "invalid opcode",
    "invalid jump",
    "stack ",
    "initcode",
)


class RpcFailed(Exception):
    """The endpoint gave no answer that can be used. The text is ours: neither its words nor its URL, a secret."""


class RpcRefused(RpcFailed):
    """The endpoint is there, and does not do this."""


class CallFailed(Exception):
    """The endpoint ran the call, and the contract failed it, with a reason in lower case or an empty one."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class RpcClient:
    """Asks one endpoint. No redirects are followed, nothing compressed is unpacked, no proxy is used."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._places = asyncio.Semaphore(AT_ONCE)

    async def call(self, method: str, *params: Any) -> Any:
        """The result, as decoded JSON. Raises RpcFailed or CallFailed."""
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        try:
            async with asyncio.timeout(TIMEOUT_S), self._places:
                answer = msgspec.json.decode(await self._post(body))
        except TimeoutError:
            raise RpcFailed("it did not answer in time") from None
        except (aiohttp.ClientError, OSError):
            raise RpcFailed("no connection") from None
        except (ValueError, RecursionError):
            raise RpcFailed("its answer is not JSON") from None
        return _result(answer)

    async def _post(self, body: bytes) -> bytes:
        async with self._session.post(self._url, data=body, allow_redirects=False) as answer:
            if answer.status != 200:
                raise RpcFailed(f"it answered {answer.status}")
            received = bytearray()
            async for part in answer.content.iter_any():
                received += part
                if len(received) > MAX_BODY:
                    raise RpcRefused("its answer is too large")
            return bytes(received)


def _result(answer: Any) -> Any:
    if not isinstance(answer, dict):
        raise RpcFailed("its answer is not JSON-RPC")
    if (error := answer.get("error")) is not None:
        raise _failure(error if isinstance(error, dict) else {})
    if "result" not in answer:
        raise RpcFailed("its answer is not JSON-RPC")
    return answer["result"]


def _failure(error: dict[str, Any]) -> Exception:
    said = str(error.get("message", "")).lower()
    if error.get("code") == REVERTED or any(fault in said for fault in CALL_FAULTS):
        return CallFailed(said.partition("reverted: ")[2])
    return RpcRefused("it refused the call")


@asynccontextmanager
async def open_rpc(url: str) -> AsyncIterator[RpcClient]:
    """The client of the endpoint at `url`; it does not wait for the endpoint to be there."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=AT_ONCE),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        auto_decompress=False,
        headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
    ) as session:
        yield RpcClient(session, url)
