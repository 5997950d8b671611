"""The watch over the payment contract: a subscription that comes and goes loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from core.access.tier_cache import TierCache
from core.access.tier_events import TierEvents
from core.bus import open_bus
from core.chain.chain import open_chain
from core.chain.payment_contract import Credit
from core.chain.payment_events import PaymentEvents
from core.chain.payment_subscription import SubscriptionFailed, payment_users
from core.clock import SystemClock
from core.ending import end
from core.store import open_store
from tests.fakes.chain import CHAIN_ID, TestChain
from workers.periodic import Periodic
from workers.tier_watch import TierWatch

CREDIT = Credit(0, 0, 0, is_pro=False)


class Line:
    """A way to the chain that can be cut."""

    def __init__(self, chain: TestChain) -> None:
        self._chain = chain
        self.is_cut = False
        self.subscriptions = 0
        self._lost = asyncio.Event()

    def cut(self) -> None:
        """Ends the subscription, and lets none begin."""
        self.is_cut = True
        self._lost.set()

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[str]]:
        if self.is_cut:
            raise SubscriptionFailed("cut")
        async with payment_users(self._chain.ws_url, CHAIN_ID, self._chain.contract) as users:
            self.subscriptions += 1
            yield self._until_lost(users)

    async def _until_lost(self, users: AsyncIterator[str]) -> AsyncIterator[str]:
        lost = asyncio.create_task(self._lost.wait())
        step: asyncio.Future[Any] = lost
        try:
            while True:
                step = asyncio.ensure_future(anext(users))
                await asyncio.wait([step, lost], return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    raise SubscriptionFailed("lost")
                yield step.result()
        finally:
            step.cancel()
            lost.cancel()


class Watched:
    """A cache that a watch keeps true."""

    def __init__(self, cache: TierCache, chain: TestChain) -> None:
        self.cache, self.chain = cache, chain

    async def ends_what_is_known(self, within_s: float) -> None:
        """Has a user pay in, whose tier was just read, and waits until that counts for nothing."""
        user = self.chain.account()
        address = user.address.lower()
        _, claim = await self.cache.look(address)
        assert claim is not None
        await self.cache.keep(address, claim, CREDIT)
        await asyncio.to_thread(self.chain.deposit, user, 1)
        async with asyncio.timeout(within_s):
            while True:
                entry, claimed = await self.cache.look(address)
                if claimed is not None:
                    await self.cache.keep(address, claimed, None)
                if entry is not None and entry.fresh_until == 0:
                    return
                await asyncio.sleep(0.01)


@asynccontextmanager
async def watch(redis_url: str, chain: TestChain, line: Line) -> AsyncIterator[Watched]:
    async with (
        open_store(redis_url, timeout_s=10) as store,
        open_bus(redis_url) as bus,
        open_chain(chain.url, CHAIN_ID) as opened,
    ):
        cache = TierCache(store, bus, SystemClock())
        events = TierEvents(cache, PaymentEvents(opened, chain.contract))
        running = [asyncio.create_task(job.run()) for job in TierWatch(events, line.subscribe).jobs()]
        async with asyncio.timeout(20):
            while await cache.block() is None:
                await asyncio.sleep(0.01)
        try:
            yield Watched(cache, chain)
        finally:
            async with asyncio.timeout(10):
                await end(running)


@pytest.mark.asyncio
class TestTheWatch:
    async def test_hears_by_subscription(self, redis_url: str, chain: TestChain) -> None:
        line = Line(chain)
        async with watch(redis_url, chain, line) as watched:
            async with asyncio.timeout(20):
                while not line.subscriptions:
                    await asyncio.sleep(0.01)
            for _ in range(3):
                await watched.ends_what_is_known(10)

    async def test_reads_the_record_while_there_is_none(self, redis_url: str, chain: TestChain) -> None:
        line = Line(chain)
        line.cut()
        async with watch(redis_url, chain, line) as watched:
            await watched.ends_what_is_known(15)

    async def test_loses_nothing_when_it_breaks(self, redis_url: str, chain: TestChain) -> None:
        line = Line(chain)
        async with watch(redis_url, chain, line) as watched:
            async with asyncio.timeout(20):
                while not line.subscriptions:
                    await asyncio.sleep(0.01)
            await watched.ends_what_is_known(10)
            line.cut()
            await watched.ends_what_is_known(15)


@pytest.mark.asyncio
class TestTheSubscription:
    async def test_of_another_chain_is_refused(self, chain: TestChain) -> None:
        with pytest.raises(SubscriptionFailed, match="CHAIN_ID"):
            async with payment_users(chain.ws_url, 1, chain.contract):
                pass

    async def test_that_can_not_be_had_tells_no_secret(self, chain: TestChain) -> None:
        with pytest.raises(SubscriptionFailed) as refused:
            async with payment_users("ws://127.0.0.1:9/key-hidden", CHAIN_ID, chain.contract):
                pass

        assert str(refused.value) == "CHAIN_WS_URL: Connection refused"
        assert refused.value.__cause__ is None

    async def test_that_is_refused_tells_the_status(self, chain: TestChain) -> None:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(SubscriptionFailed, match=r"^CHAIN_WS_URL: it answered 401$"):
                async with payment_users(f"ws://127.0.0.1:{port}/key-hidden", CHAIN_ID, chain.contract):
                    pass

    async def test_that_is_missing_is_one_line_in_the_log(
        self, chain: TestChain, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def listen() -> None:
            async with payment_users("ws://127.0.0.1:9/key-hidden", CHAIN_ID, chain.contract):
                pass

        await Periodic("the subscription", listen, every_s=1).once()

        (record,) = caplog.records
        assert record.exc_info is None
        assert record.getMessage() == (
            "the subscription fails and is tried again: SubscriptionFailed('CHAIN_WS_URL: Connection refused')"
        )

    async def test_ends_when_it_is_told_to_while_it_closes(self, chain: TestChain) -> None:
        async def come_and_go() -> None:
            async with payment_users(chain.ws_url, CHAIN_ID, chain.contract):
                leaving.set()
            await asyncio.sleep(60)

        for pauses in range(12):
            leaving = asyncio.Event()
            task = asyncio.create_task(come_and_go())
            await leaving.wait()
            for _ in range(pauses):
                await asyncio.sleep(0)
            task.cancel()

            assert await asyncio.wait([task], timeout=10) == ({task}, set())
