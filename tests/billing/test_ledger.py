"""The account: what a commit, a delivery and a hand-back do, and that each does it once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core import redis_keys
from core.access.grant import Grant
from core.billing.ledger import Ledger, Totals
from core.catalog import Tier
from core.errors import StoreUnavailable
from core.inference.completion import Usage
from core.nodes.node import Node
from core.store import Store, open_store
from tests.access.gates import ADA, ASKED, BOB, CATALOG, Everyone, gate, used
from tests.fakes.redis_server import RedisServer

WALLET = "0x" + "c" * 40
NODE, OTHER_NODE = Node("http://10.0.0.5:31331", WALLET), Node("http://10.0.0.6:31331")
LATENCY_MS = 250
NOTHING = Totals(answers=0, prompt_tokens=0, completion_tokens=0)
USAGE = Usage(prompt_tokens=8, completion_tokens=5, total_tokens=13)


@pytest.mark.asyncio
class TestCommit:
    async def test_counts_the_answer_for_the_fleet_and_for_its_node(self, store: Store) -> None:
        ledger = Ledger(store)

        await ledger.commit(await gate(store).admit(ADA, ASKED), USAGE, NODE, LATENCY_MS)
        await ledger.commit(await gate(store).admit(BOB, ASKED), Usage(1, 2, 3), OTHER_NODE, LATENCY_MS)

        assert await ledger.totals() == Totals(answers=2, prompt_tokens=9, completion_tokens=7)
        assert await ledger.node_totals(NODE.url) == Totals(answers=1, prompt_tokens=8, completion_tokens=5)
        assert await ledger.node_totals(OTHER_NODE.url) == Totals(answers=1, prompt_tokens=1, completion_tokens=2)

    async def test_twice_counts_once_also_at_the_same_time(self, store: Store) -> None:
        ledger, grant = Ledger(store), await gate(store).admit(ADA, ASKED)

        await asyncio.gather(*(ledger.commit(grant, USAGE, NODE, LATENCY_MS) for _ in range(20)))

        assert await ledger.totals() == Totals(answers=1, prompt_tokens=8, completion_tokens=5)

    async def test_ends_the_chance_to_hand_it_back(self, store: Store) -> None:
        ledger, grant = Ledger(store), await gate(store).admit(ADA, ASKED)
        await ledger.commit(grant, USAGE, NODE, LATENCY_MS)

        await ledger.hand_back(grant)

        assert await used(store) == 1

    @pytest.mark.parametrize("absurd", [10**30, 2**63 - 1, -1])
    async def test_an_absurd_figure_of_a_node_does_not_spoil_the_totals(self, store: Store, absurd: int) -> None:
        ledger, admission = Ledger(store), gate(store)
        grant = await admission.admit(ADA, ASKED)

        await ledger.commit(grant, Usage(absurd, absurd, absurd), NODE, LATENCY_MS)
        await ledger.commit(await admission.admit(ADA, ASKED), USAGE, NODE, LATENCY_MS)

        most = (grant.model.context_length, grant.max_tokens) if absurd > 0 else (0, 0)
        assert await ledger.totals() == Totals(answers=2, prompt_tokens=most[0] + 8, completion_tokens=most[1] + 5)

    async def test_counts_pro_answers_too(self, store: Store) -> None:
        ledger = Ledger(store)

        await ledger.commit(await gate(store, tiers=Everyone(Tier.PRO)).admit(ADA, ASKED), USAGE, NODE, LATENCY_MS)

        assert (await ledger.totals())["answers"] == 1


@pytest.mark.asyncio
class TestAccounts:
    """What is to be reported to the Oracle, and for whom."""

    async def test_the_own_account_has_every_answer_with_its_duration(self, store: Store) -> None:
        ledger, grant = Ledger(store), await gate(store).admit(ADA, ASKED)

        await ledger.commit(grant, USAGE, NODE, 250)
        await ledger.commit(grant, USAGE, NODE, 250)
        await ledger.commit(await gate(store).admit(BOB, ASKED), USAGE, OTHER_NODE, 50)

        assert await account(store, redis_keys.OWN) == {"answers": 2, "completion_tokens": 10, "latency_ms": 300}
        assert await account(store, WALLET) == {}

    async def test_per_node_an_answer_is_in_the_account_of_its_nodes_wallet(self, store: Store) -> None:
        ledger = Ledger(store, per_node_wallet=True)

        await ledger.commit(await gate(store).admit(ADA, ASKED), USAGE, NODE, 250)
        await ledger.commit(await gate(store).admit(BOB, ASKED), USAGE, OTHER_NODE, 50)

        assert await account(store, WALLET) == {"answers": 1, "completion_tokens": 5, "latency_ms": 250}
        assert await account(store, redis_keys.NOBODY) == {"answers": 1, "completion_tokens": 5, "latency_ms": 50}
        assert await account(store, redis_keys.OWN) == {}

    async def test_an_answer_stays_in_one_account_when_the_mode_changes(self, store: Store) -> None:
        grant = await gate(store).admit(ADA, ASKED)

        await Ledger(store).commit(grant, USAGE, NODE, 250)
        await Ledger(store, per_node_wallet=True).commit(grant, USAGE, NODE, 250)

        assert await store.hash(redis_keys.ACCOUNTS) == {redis_keys.OWN: "1"}
        assert await account(store, WALLET) == {}


async def account(store: Store, name: str) -> dict[str, int]:
    """An account without its prompts."""
    found = await store.hash(redis_keys.account(name))
    return {field: int(value) for field, value in sorted(found.items()) if field != "prompt_tokens"}


@pytest.mark.asyncio
class TestHandBack:
    async def test_frees_exactly_one_slot(self, store: Store) -> None:
        admission = gate(store)
        grants = [await admission.admit(ADA, ASKED) for _ in range(3)]

        await Ledger(store).hand_back(grants[1])

        assert await used(store) == 2

    async def test_twice_is_once_also_at_the_same_time(self, store: Store) -> None:
        admission = gate(store)
        grants = [await admission.admit(ADA, ASKED) for _ in range(3)]

        await asyncio.gather(*(Ledger(store).hand_back(grants[0]) for _ in range(20)))

        assert await used(store) == 2

    async def test_leaves_other_users_alone(self, store: Store) -> None:
        admission = gate(store)
        await admission.admit(BOB, ASKED)

        await Ledger(store).hand_back(await admission.admit(ADA, ASKED))

        assert (await used(store, ADA), await used(store, BOB)) == (0, 1)

    async def test_after_the_first_piece_left_does_nothing(self, store: Store) -> None:
        ledger, grant = Ledger(store), await gate(store).admit(ADA, ASKED)
        await ledger.delivered(grant)

        await ledger.hand_back(grant)

        assert await used(store) == 1

    async def test_counts_no_usage(self, store: Store) -> None:
        ledger = Ledger(store)

        await ledger.hand_back(await gate(store).admit(ADA, ASKED))

        assert await ledger.totals() == NOTHING


@pytest.mark.asyncio
class TestDelivered:
    async def test_twice_is_harmless_and_the_commit_still_counts(self, store: Store) -> None:
        ledger, grant = Ledger(store), await gate(store).admit(ADA, ASKED)
        await ledger.delivered(grant)
        await ledger.delivered(grant)

        await ledger.commit(grant, USAGE, NODE, LATENCY_MS)

        assert (await ledger.totals())["answers"] == 1


@pytest.mark.asyncio
class TestTotals:
    async def test_are_zeros_before_the_first_answer(self, store: Store) -> None:
        assert await Ledger(store).totals() == NOTHING
        assert await Ledger(store).node_totals(NODE.url) == NOTHING


@pytest.mark.asyncio
class TestWithoutRedis:
    async def test_every_note_says_that_the_store_is_away(self, tmp_path: Path) -> None:
        grant = Grant("req_1_0123456789abcdef", ADA, Tier.FREE, CATALOG.require("small"), 8, None)
        async with open_store(f"unix://{tmp_path}/none.sock") as store:
            ledger = Ledger(store)
            for note in (
                ledger.commit(grant, USAGE, NODE, LATENCY_MS),
                ledger.delivered(grant),
                ledger.hand_back(grant),
            ):
                with pytest.raises(StoreUnavailable):
                    await note
            await ledger.aclose()


@pytest.mark.asyncio
class TestARedisThatComesBack:
    async def test_answers_that_ended_meanwhile_are_counted_once(self, own_redis: RedisServer) -> None:
        async with open_store(own_redis.url, timeout_s=5) as store:
            ledger = Ledger(store)
            grants = [await gate(store).admit(ADA, ASKED) for _ in range(3)]
            await ledger.commit(grants[0], USAGE, NODE, LATENCY_MS)
            own_redis.stop()
            for grant in grants:
                with pytest.raises(StoreUnavailable):
                    await ledger.commit(grant, USAGE, NODE, LATENCY_MS)
            own_redis.start()

            async with asyncio.timeout(10):
                while (await ledger.totals())["answers"] < 3:
                    await asyncio.sleep(0.02)
            await ledger.aclose()
            assert await ledger.totals() == Totals(answers=3, prompt_tokens=24, completion_tokens=15)

    async def test_they_are_counted_at_the_latest_when_the_process_ends(self, own_redis: RedisServer) -> None:
        async with open_store(own_redis.url, timeout_s=5) as store:
            ledger, grant = Ledger(store), await gate(store).admit(ADA, ASKED)
            own_redis.stop()
            with pytest.raises(StoreUnavailable):
                await ledger.commit(grant, USAGE, NODE, LATENCY_MS)
            own_redis.start()

            await ledger.aclose()

            assert (await ledger.totals())["answers"] == 1

    async def test_one_that_stays_away_keeps_no_process_from_ending(self, own_redis: RedisServer) -> None:
        async with open_store(own_redis.url, timeout_s=5) as store:
            ledger, grant = Ledger(store), await gate(store).admit(ADA, ASKED)
            own_redis.stop()
            with pytest.raises(StoreUnavailable):
                await ledger.commit(grant, USAGE, NODE, LATENCY_MS)

            await ledger.aclose()
