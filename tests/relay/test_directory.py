"""The list of connected agents in Redis: who is on it, for how long, and who may change what."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable

import msgspec
import pytest

from core.bus import open_bus
from core.nodes.relay.agents import Agents
from core.nodes.relay.directory import AgentDirectory, Entry
from core.store import Store


def entry(number: int, worker: str = "worker01") -> Entry:
    return Entry(f"0x{number:040x}", secrets.token_hex(16), worker, "m")


async def listed(directory: AgentDirectory, *own: Entry) -> set[Entry]:
    return set((await directory.sync(own))[1])


@pytest.fixture
def directory(store: Store) -> AgentDirectory:
    return AgentDirectory(store, life_s=60, most=3)


@pytest.mark.asyncio
class TestDirectory:
    async def test_who_joins_is_listed_and_who_leaves_is_not(self, directory: AgentDirectory) -> None:
        one, two = entry(1), entry(2)
        await directory.join(one)
        await directory.join(two)
        assert await listed(directory) == {one, two}

        assert await directory.leave(one)

        assert await listed(directory) == {two}

    async def test_a_later_connection_of_an_address_replaces_and_the_earlier_can_not_take_it_away(
        self, directory: AgentDirectory
    ) -> None:
        old, new = entry(1), entry(1, "worker02")
        await directory.join(old)
        await directory.join(new)

        assert not await directory.leave(old)
        assert await listed(directory, old) == {new}  # vouching for it does not bring it back either

    @pytest.mark.parametrize("model", ["m" * 1_000_000, "x\nFORGED"])
    async def test_a_name_that_no_agent_can_have_is_not_read(self, directory: AgentDirectory, model: str) -> None:
        await directory.join(msgspec.structs.replace(entry(1), model=model))
        await directory.join(good := entry(2))

        assert await listed(directory) == {good}

    async def test_there_is_room_for_so_many_addresses(self, directory: AgentDirectory) -> None:
        assert [await directory.join(entry(number)) for number in range(4)] == [True, True, True, False]
        assert await directory.join(entry(1))  # in its own place

    async def test_it_is_refused_by_exactly_one_of_many_at_once(self, directory: AgentDirectory) -> None:
        joined = await asyncio.gather(*(directory.join(entry(number)) for number in range(20)))

        assert sum(joined) == 3
        assert len(await listed(directory)) == 3

    async def test_whom_nobody_vouches_for_is_forgotten(self, store: Store) -> None:
        directory = AgentDirectory(store, life_s=0.3)
        kept, lost = entry(1), entry(2)
        await directory.join(kept)
        await directory.join(lost)
        for _ in range(5):
            await asyncio.sleep(0.1)
            left = await listed(directory, kept)

        assert left == {kept}

    async def test_a_list_that_was_lost_is_filled_by_those_who_vouch(self, directory: AgentDirectory) -> None:
        one = entry(1)

        assert await directory.sync([one]) == (True, [one])
        assert await directory.sync([one]) == (False, [one])

    async def test_an_entry_is_changed_only_while_it_is_there(self, directory: AgentDirectory) -> None:
        old, new = entry(1), entry(1)
        await directory.join(old)
        await directory.join(new)

        assert not await directory.change(old, entry(1))
        assert await directory.change(new, old)
        assert await listed(directory) == {old}


class SlowDirectory(AgentDirectory):
    """One whose voucher, or farewell, is written at once and reaches Redis late."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.is_slow_to_leave = False
        self.on_its_way, self.arrives = asyncio.Event(), asyncio.Event()

    async def sync(self, own: Iterable[Entry]) -> tuple[bool, list[Entry]]:
        written = list(own)
        self.on_its_way.set()
        await self.arrives.wait()
        return await super().sync(written)

    async def leave(self, entry: Entry) -> bool:
        if self.is_slow_to_leave:
            self.on_its_way.set()
            await self.arrives.wait()
        return await super().leave(entry)


@pytest.mark.asyncio
async def test_an_agent_that_leaves_while_it_is_vouched_for_is_gone(store: Store, redis_url: str) -> None:
    directory = SlowDirectory(store)
    async with open_bus(redis_url) as bus:
        agents = Agents("worker01", directory, bus)
        connection = await agents.join("0x" + "ab" * 20, "m", lambda *_: None)
        assert connection is not None
        refreshing = asyncio.create_task(agents.refresh())
        await directory.on_its_way.wait()
        await agents.leave(connection)
        directory.arrives.set()
        await refreshing

        assert await listed(AgentDirectory(store)) == set()


@pytest.mark.asyncio
async def test_an_agent_is_gone_though_its_handler_is_cancelled_in_the_middle(store: Store, redis_url: str) -> None:
    directory = SlowDirectory(store)
    directory.is_slow_to_leave = True
    async with open_bus(redis_url) as bus:
        agents = Agents("worker01", directory, bus)
        connection = await agents.join("0x" + "ab" * 20, "m", lambda *_: None)
        assert connection is not None
        leaving = asyncio.create_task(agents.leave(connection))
        await directory.on_its_way.wait()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        directory.arrives.set()

        async with asyncio.timeout(10):
            while await listed(AgentDirectory(store)):
                await asyncio.sleep(0.005)
