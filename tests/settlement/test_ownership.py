"""A ledger over which another contract is to settle, or another key."""

from __future__ import annotations

import pytest
from eth_account.signers.local import LocalAccount

from core import redis_keys
from core.settlement.journal import Attempt, ForeignLedger, Journal, JournalMoved, Owner
from core.settlement.settler import FOREIGN
from tests.fakes.chain import CHAIN_ID, PAYMENT, TREASURY
from tests.settlement.bench import Bench, Killed, killer
from tests.settlement.test_recovery import KILLED_AT
from workers.settlement import adopt, reconcile


def another_contract(bench: Bench) -> str:
    """From here on the settlers' contract is a new one; the former one's address."""
    former, bench.contract = bench.contract, bench.chain.deploy(PAYMENT, bench.key.address, TREASURY)
    return former


@pytest.mark.asyncio
class TestAnotherContract:
    async def test_settles_nothing_and_freezes_nobody(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 40_000)
        await bench.settle(settler)
        former = another_contract(bench)
        bench.pays_in(user, 150)
        settler = bench.settler()

        for _ in range(2):
            for _ in range(4):
                await settler.tick()
                bench.mine(3)
                bench.clock.advance(5)
            assert bench.status()["state"] == FOREIGN
            bench.restart_redis()

        assert "workers.settlement adopt" in caplog.text
        assert bench.redis.smembers(redis_keys.FROZEN) == set()
        assert bench.debits(user) == []
        assert bench.credit(user) == {"cum": 40_000, "settled": 40_000, "inflight": 0}
        bench.contract = former
        bench.uses(user, 5)
        await bench.settle(await bench.recovered(bench.settler()))
        assert bench.debits(user) == [40_000, 5]

    async def test_signs_nothing_for_a_transaction_that_is_open(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.automine(on=False)
        bench.uses(user, 10)
        await settler.tick()
        (nonce,) = bench.open()
        bench.automine(on=True)
        former = another_contract(bench)
        bench.clock.advance(21)

        await bench.settler().tick()

        assert len(bench.attempts(nonce)) == 1
        bench.contract = former
        await bench.settle(bench.settler())
        assert bench.debits(user) == [10]

    async def test_does_not_recover_either(self, bench: Bench) -> None:
        await bench.recovered(bench.settler())
        bench.lose_journal()
        nonce = bench.next_nonce()
        another_contract(bench)

        await bench.settler().tick()

        assert bench.status()["state"] == FOREIGN
        assert bench.next_nonce() == nonce

    async def test_on_another_chain_is_another_one(self, bench: Bench) -> None:
        await bench.recovered(bench.settler())

        with pytest.raises(ForeignLedger):
            await Journal(bench.store, Owner.of(CHAIN_ID + 1, bench.contract, bench.key.address.lower())).look()

    async def test_of_a_ledger_without_a_mark_is_the_first_one_that_comes(self, bench: Bench) -> None:
        user = bench.user()
        await bench.recovered(bench.settler())
        bench.redis.delete(redis_keys.LEDGER)  # as one that was written before there was a mark
        bench.uses(user, 10)

        await bench.settle(bench.settler())

        assert bench.debits(user) == [10]
        another_contract(bench)
        await bench.settler().tick()
        assert bench.status()["state"] == FOREIGN


@pytest.mark.asyncio
class TestAnAdoption:
    async def test_takes_what_was_used_before_as_settled(
        self, bench: Bench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        user, debtor, newcomer = bench.user(), bench.user(0), bench.user(0)
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 40_000)
        bench.uses(debtor, 30)
        for _ in range(6):
            await settler.tick()
            bench.mine(3)
            bench.clock.advance(20)
        assert bench.outstanding() == [debtor.address.lower()]
        another_contract(bench)
        for each in (user, debtor, newcomer):
            bench.pays_in(each, 150)
        bench.debited_by_hand(user, 7)  # by the new contract, for whatever was before

        assert await adopt(bench.settler()) == 0
        assert capsys.readouterr().out == "2 users taken over, 30 tokens never to be debited\n"
        assert await adopt(bench.settler()) == 0
        assert capsys.readouterr().out == "The ledger is of this contract\n"

        for each in (user, debtor, newcomer):
            bench.uses(each, 500)
        settler = await bench.recovered(bench.settler())
        await bench.settle(settler)
        assert bench.debits(user) == [7, 500]
        assert bench.debits(debtor) == bench.debits(newcomer) == [500]
        assert bench.credit(user) == {"cum": 40_500, "settled": 40_500, "inflight": 0, "base": 39_993}
        assert await reconcile(settler) == 0

    @pytest.mark.parametrize("step", KILLED_AT)
    async def test_lasts_whatever_becomes_of_the_journal(self, bench: Bench, step: str) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 40_000)
        await bench.settle(settler)
        another_contract(bench)
        bench.pays_in(user, 150)
        await bench.settler().adopt()
        bench.uses(user, 5)

        with pytest.raises(Killed):
            await bench.recovered(bench.settler(at=killer(step)))
        await bench.settle(await bench.recovered(bench.settler()))
        bench.restart_redis()
        bench.uses(user, 6)
        settler = await bench.recovered(bench.settler())
        await bench.settle(settler)

        assert bench.debits(user) == [5, 6]
        assert bench.credit(user) == {"cum": 40_011, "settled": 40_011, "inflight": 0, "base": 40_000}
        assert (await settler.reconcile()).differing == []

    async def test_waits_for_what_is_under_way(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await settler.tick()
        former = another_contract(bench)

        assert await adopt(bench.settler()) == 78
        assert "is on its way" in capsys.readouterr().err

        await bench.settler().tick()
        assert bench.status()["state"] == FOREIGN
        bench.mine(3)
        await settler.tick()
        assert await adopt(bench.settler()) == 0
        bench.contract = former
        assert bench.debits(user) == [10]

    async def test_ends_all_work_for_the_former_contract(self, bench: Bench) -> None:
        user = bench.user()
        name = user.address.lower()
        await bench.recovered(bench.settler())
        journal = bench.journal()
        view = await journal.look()
        bench.uses(user, 10)
        tx = await journal.plan(view.epoch, view.next or 0, name, 10, 16)
        assert tx is not None
        await journal.close(tx, None)
        another_contract(bench)
        await bench.settler().adopt()

        with pytest.raises(JournalMoved):
            await journal.plan(view.epoch, tx.nonce + 1, name, 10, 16)
        with pytest.raises(ForeignLedger):
            await journal.look()
        assert await journal.append(tx, Attempt("0x", "0x", 1, 1, 0)) is False
        assert await journal.close(tx, None) is False


def another_key(bench: Bench) -> LocalAccount:
    """From here on the settlers' key is a new one; the former one."""
    former, bench.key = bench.key, bench.chain.account(10)
    return former


@pytest.mark.asyncio
class TestAnotherKey:
    async def test_waits_until_it_is_the_contracts_gateway_and_begins_with_its_own_nonces(self, bench: Bench) -> None:
        user = bench.user()
        await bench.recovered(bench.settler())
        bench.redis.set(redis_keys.JOURNAL_NEXT, 5000)  # as after so many debits
        bench.redis.set(redis_keys.JOURNAL_HIGH, 5016)
        another_key(bench)
        settler = bench.settler()
        for _ in range(4):
            await settler.tick()
            bench.mine(3)
        assert bench.status()["state"] == "wrong gateway"
        assert bench.next_nonce() == 0

        bench.chain.transact_at(bench.contract, "setGateway", bench.key.address)
        bench.clock.advance(61)
        await bench.recovered(settler)
        assert bench.next_nonce() == 17

        bench.uses(user, 10)
        await bench.settle(settler)
        assert bench.debits(user) == [10]

    @pytest.mark.parametrize("is_mined", [True, False])
    async def test_counts_what_the_former_one_has_debited_until_it_was_replaced(
        self, bench: Bench, *, is_mined: bool
    ) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 500)
        bench.automine(on=False)
        await settler.tick()
        (nonce,) = bench.open()
        form = bench.attempts(nonce)[0]
        bench.drop(form["hash"])  # somebody kept it
        bench.automine(on=True)
        another_key(bench)
        settler = bench.settler()
        for _ in range(12):  # a recovery would be over by then
            await settler.tick()
            bench.mine(3)
            bench.clock.advance(5)

        if is_mined:
            bench.send_raw(form["raw"])
        bench.mine(1)
        bench.chain.transact_at(bench.contract, "setGateway", bench.key.address)
        bench.clock.advance(61)
        await bench.recovered(settler)
        bench.send_raw(form["raw"])
        bench.mine(1)
        await bench.settle(settler)

        assert bench.debits(user) == [500]
        assert bench.credit(user) == {"cum": 500, "settled": 500, "inflight": 0}

    async def test_is_believed_to_be_the_gateway_only_in_a_block_that_stands(self, bench: Bench) -> None:
        former = bench.key
        another_key(bench)
        bench.chain.transact_at(bench.contract, "setGateway", bench.key.address)
        settler = bench.settler()
        await settler.tick()
        bench.mine(3)
        await settler.tick()
        assert bench.next_nonce() == 17
        bench.chain.transact_at(bench.contract, "setGateway", former.address)
        bench.mine(3)

        await settler.tick()  # its permission is a minute old at the most
        assert bench.redis.get(redis_keys.JOURNAL_NEXT) is None

    async def test_of_before_takes_its_turn_again(self, bench: Bench) -> None:
        user = bench.user()
        await bench.recovered(bench.settler())
        former = another_key(bench)
        bench.chain.transact_at(bench.contract, "setGateway", bench.key.address)
        bench.uses(user, 10)
        await bench.settle(await bench.recovered(bench.settler()))
        bench.key = former
        bench.chain.transact_at(bench.contract, "setGateway", bench.key.address)
        bench.uses(user, 5)

        await bench.settle(await bench.recovered(bench.settler()))

        assert bench.debits(user) == [10, 5]
        assert bench.next_nonce() == 35  # 17 for each recovery, and one debit

    async def test_of_a_journal_without_a_mark_is_the_first_one_that_comes(self, bench: Bench) -> None:
        await bench.recovered(bench.settler())
        bench.redis.delete(redis_keys.JOURNAL_ACCOUNT)  # as one that was written before there was a mark
        nonce = bench.next_nonce()

        await bench.settler().tick()

        assert (bench.status()["state"], bench.next_nonce()) == ("ok", nonce)
        another_key(bench)
        await bench.settler().tick()
        assert bench.status()["state"] == "wrong gateway"
