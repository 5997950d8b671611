"""The comparison of the ledger with the chain."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from core import redis_keys
from core.chain.account import Account
from core.chain.debits import Debits
from core.errors import ChainUnavailable
from core.settlement.accounts import Accounts
from core.settlement.reconciling import Mismatch, NoJournal
from tests.fakes.rpc_proxy import Fault, RpcProxy
from tests.settlement.bench import RULES, Bench, Lagging, at_first, open_bench


@pytest.mark.asyncio
class TestReconciling:
    async def test_finds_nothing_when_all_is_well(self, bench: Bench) -> None:
        users = [bench.user() for _ in range(3)]
        settler = await bench.recovered(bench.settler())
        for user in users:
            bench.uses(user, 10)
        await bench.settle(settler)
        bench.uses(users[0], 10)
        await settler.tick()

        for _ in range(4):  # under way, mined, deep enough and not noted
            compared = await settler.reconcile()
            assert (compared.users, compared.differing) == (3, [])
            bench.mine(1)

    async def test_freezes_who_differs_until_he_does_not(self, bench: Bench) -> None:
        user, other = bench.user(), bench.user()
        name = user.address.lower()
        settler = await bench.recovered(bench.settler())
        for each in (user, other):
            bench.uses(each, 10)
        await bench.settle(settler)
        bench.redis.hincrby(redis_keys.credit(name), "settled", 3)

        compared = await settler.reconcile()
        for each in (user, other):
            bench.uses(each, 10)
        await bench.settle(settler, turns=5)

        assert compared.differing == [Mismatch(name, 13, 10)]
        assert (bench.debits(user), bench.debits(other)) == ([10], [10, 10])
        assert bench.status()["mismatch"] == 1
        bench.redis.hincrby(redis_keys.credit(name), "settled", -3)
        assert (await settler.reconcile()).differing == []
        await bench.settle(settler)
        assert bench.debits(user) == [10, 10]

    async def test_freezes_also_who_was_due_a_moment_before(self, bench: Bench) -> None:
        user = bench.user()
        name = user.address.lower()
        await bench.recovered(bench.settler())
        bench.uses(user, 10)
        view = await bench.journal().look()
        await Accounts(bench.store).freeze([name])

        assert await bench.journal().plan(view.epoch, view.next or 0, name, 10, 16) is None

    async def test_is_done_each_hour(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await bench.settle(settler)
        bench.redis.hincrby(redis_keys.credit(user.address.lower()), "settled", 3)
        await settler.tick()
        await settler.tick()
        assert bench.status()["mismatch"] == 0

        bench.clock.advance(3601)
        await settler.tick()
        await settler.tick()

        assert bench.status()["mismatch"] == 1

    async def test_sees_a_debit_that_the_ledger_knows_nothing_of(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.debited_by_hand(user, 7)
        bench.mine(3)

        assert (await settler.reconcile()).differing == [Mismatch(user.address.lower(), 0, 7)]

    async def test_freezes_nobody_for_events_that_an_endpoint_leaves_out(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await bench.settle(settler)
        Lagging(bench.opened).rules["eth_getLogs"] = at_first(1, [])
        settler = bench.settler()

        with pytest.raises(ChainUnavailable):
            await settler.reconcile()
        assert bench.redis.smembers(redis_keys.FROZEN) == set()

        assert (await settler.reconcile()).differing == []

    async def test_freezes_nobody_for_a_head_that_is_older_than_the_turns_own(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await settler.tick()
        bench.mine(3)
        before = bench.chain.rpc("eth_getBlockByNumber", hex(bench.head() - 1), False)
        is_first = at_first(1, said=True)
        Lagging(bench.opened).rules["eth_getBlockByNumber"] = lambda at, _: (
            before if at == "latest" and not is_first() else None
        )

        await bench.settler().tick()  # it ends the transaction, and compares

        assert bench.credit(user) == {"cum": 10, "settled": 10, "inflight": 0}
        assert bench.redis.smembers(redis_keys.FROZEN) == set()

    async def test_nor_for_one_that_is_older_than_an_earlier_turns(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await settler.tick()
        bench.mine(3)
        await settler.tick()
        assert bench.credit(user) == {"cum": 10, "settled": 10, "inflight": 0}
        bench.clock.advance(3601)
        before = bench.chain.rpc("eth_getBlockByNumber", hex(bench.head() - 1), False)
        Lagging(bench.opened).rules["eth_getBlockByNumber"] = lambda at, _: before if at == "latest" else None

        await settler.tick()

        assert bench.redis.smembers(redis_keys.FROZEN) == set()

    async def test_waits_for_a_block_before_it_looks_again(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler(replace(RULES, block_s=0.5)))
        bench.uses(user, 10)
        await bench.settle(settler)
        until, before = time.monotonic() + 0.4, bench.chain.rpc("eth_getBlockByNumber", hex(bench.head() - 2), False)
        Lagging(bench.opened).rules["eth_getBlockByNumber"] = lambda at, _: (
            before if at == "latest" and time.monotonic() < until else None
        )

        assert (await settler.reconcile()).differing == []

    async def test_lets_go_at_once_of_who_does_not_differ_any_more(self, bench: Bench) -> None:
        user, other = bench.user(), bench.user()
        settler = await bench.recovered(bench.settler())
        for each in (user, other):
            bench.uses(each, 10)
        await bench.settle(settler)
        for each in (user, other):
            bench.redis.hincrby(redis_keys.credit(each.address.lower()), "settled", 3)
        await settler.reconcile()
        assert len(bench.redis.smembers(redis_keys.FROZEN)) == 2
        bench.redis.hincrby(redis_keys.credit(user.address.lower()), "settled", -3)

        await settler.tick()

        assert bench.redis.smembers(redis_keys.FROZEN) == {other.address.lower()}

    async def test_can_not_be_done_without_a_journal(self, bench: Bench) -> None:
        with pytest.raises(NoJournal):
            await bench.settler().reconcile()


@pytest.mark.asyncio
class TestTheRecordOfDebits:
    async def test_is_read_in_pieces_and_only_once(self, bench: Bench, redis_url: str) -> None:
        with RpcProxy(bench.chain.url) as rpc:
            async with open_bench(bench.chain, redis_url, rpc.url) as other:
                user = other.user()
                for tokens in (1, 2, 4):
                    other.debited_by_hand(user, tokens)
                head = int(bench.chain.rpc("eth_blockNumber"), 16)
                debits = Debits(other.opened, Account(other.opened, other.key.address.lower()), other.contract, 10)

                totals = await debits.totals(head)
                asked = rpc.calls["eth_getLogs"]
                again = await debits.totals(head)

                assert totals == again == {user.address.lower(): 7}
                assert asked == -(-(head + 1) // 10)
                assert rpc.calls["eth_getLogs"] == asked

    async def test_is_read_in_smaller_pieces_after_a_refusal_and_goes_on_from_where_it_was(
        self, bench: Bench, redis_url: str
    ) -> None:
        with RpcProxy(bench.chain.url) as rpc:
            async with open_bench(bench.chain, redis_url, rpc.url) as other:
                bench.chain.mine(10)  # so that half of the record is more than its last three blocks
                user = other.user()
                for tokens in (1, 2, 4):
                    other.debited_by_hand(user, tokens)
                head = int(bench.chain.rpc("eth_blockNumber"), 16)
                account = Account(other.opened, other.key.address.lower())
                debits = Debits(other.opened, account, other.contract, head - 2)
                await debits.totals(head - 3)
                before = rpc.calls["eth_getLogs"]

                rpc.faults["eth_getLogs"] = Fault.ERROR
                with pytest.raises(ChainUnavailable):
                    await debits.totals(head)
                del rpc.faults["eth_getLogs"]

                assert await debits.totals(head) == {user.address.lower(): 7}
                assert rpc.calls["eth_getLogs"] == before + 2

    async def test_stays_when_an_endpoint_lacks_its_latest_blocks(self, bench: Bench, redis_url: str) -> None:
        with RpcProxy(bench.chain.url) as rpc:
            async with open_bench(bench.chain, redis_url, rpc.url) as other:
                user = other.user()
                other.debited_by_hand(user, 7)
                debits = Debits(other.opened, Account(other.opened, other.key.address.lower()), other.contract)
                await debits.totals(other.head())
                asked = rpc.calls["eth_getLogs"]

                with pytest.raises(ChainUnavailable):
                    await debits.totals(other.head() - 1)
                lagging = Lagging(other.opened)
                lagging.rules["eth_getBlockByNumber"] = at_first(1, False)
                with pytest.raises(ChainUnavailable):
                    await debits.totals(other.head())

                assert await debits.totals(other.head()) == {user.address.lower(): 7}
                assert rpc.calls["eth_getLogs"] == asked

    async def test_is_held_against_the_contracts_own_count(self, bench: Bench) -> None:
        user, other = bench.user(), bench.user()
        names = [user.address.lower(), other.address.lower()]
        debits = Debits(bench.opened, Account(bench.opened, bench.key.address.lower()), bench.contract)
        bench.debited_by_hand(user, 7)
        bench.chain.transact_at(bench.contract, "setCostPer1000Tokens", 3 * 10**15)
        bench.debited_by_hand(user, 4)
        head = int(bench.chain.rpc("eth_blockNumber"), 16)
        bench.debited_by_hand(user, 1)  # behind the block that is read

        assert await debits.totals(head) == {names[0]: 11}
        await debits.confirm(names)

    async def test_is_read_anew_when_its_blocks_were_taken_back(self, bench: Bench) -> None:
        user = bench.user()
        debits = Debits(bench.opened, Account(bench.opened, bench.key.address.lower()), bench.contract)
        bench.debited_by_hand(user, 7)
        head = int(bench.chain.rpc("eth_blockNumber"), 16)
        assert await debits.totals(head) == {user.address.lower(): 7}

        bench.chain.rpc("anvil_reorg", 1, [])

        assert await debits.totals(head) == {}
