"""The payment contract's events as they happen. Only the background worker imports this: web3 is large."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from web3 import AsyncWeb3, WebSocketProvider
from web3.exceptions import ProviderConnectionError, Web3Exception
from web3.types import LogsSubscriptionArg
from websockets.exceptions import InvalidStatus, WebSocketException

from core.chain.payment_contract import USER_TOPICS
from core.chain.payment_events import user_of
from core.expected import Expected
from core.unreachable import why

TIMEOUT_S = 5.0  # for connecting, and for each answer
MAX_MESSAGE = 1024 * 1024  # bytes


class SubscriptionFailed(Expected):
    """No events from here; the text is ours, since the URL may carry a key."""


@asynccontextmanager
async def payment_users(url: str, chain_id: int, address: str) -> AsyncIterator[AsyncIterator[str]]:
    """
    The lower-case address of each user as something happens to his deposit, from the moment this is entered.

    Raises SubscriptionFailed: at the start when the endpoint is away or of another chain, later when it is lost.
    """
    provider = WebSocketProvider(
        url,
        request_timeout=TIMEOUT_S,
        max_connection_retries=1,
        websocket_kwargs={"max_size": MAX_MESSAGE, "open_timeout": TIMEOUT_S},
    )
    web3 = AsyncWeb3(provider)
    try:
        async with asyncio.timeout(2 * TIMEOUT_S):
            await provider.connect()
            if await web3.eth.chain_id != chain_id:
                raise SubscriptionFailed("CHAIN_WS_URL is of another chain than CHAIN_ID")
            wanted = {"address": web3.to_checksum_address(address), "topics": [USER_TOPICS]}
            await web3.eth.subscribe("logs", cast("LogsSubscriptionArg", wanted))
        yield _users(web3)
    except (Web3Exception, WebSocketException, OSError, TimeoutError, ValueError, TypeError, KeyError) as problem:
        raise SubscriptionFailed(f"CHAIN_WS_URL: {_reason(problem)}") from None
    finally:
        # A task of its own: web3 swallows a cancellation that meets it while it closes.
        await asyncio.wait([asyncio.create_task(provider.disconnect())], timeout=TIMEOUT_S)


def _reason(problem: Exception) -> str:
    cause = problem.__cause__ if isinstance(problem, ProviderConnectionError) else None
    if isinstance(cause, InvalidStatus):
        return f"it answered {cause.response.status_code}"
    return why(cause or problem)


async def _users(web3: AsyncWeb3[Any]) -> AsyncIterator[str]:
    async for message in web3.socket.process_subscriptions():
        log = cast("dict[str, Any]", message["result"])
        yield user_of(bytes(log["topics"][1]))
