"""A journal that is lost, rolled back, or can't be right."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from core import redis_keys
from core.auth.caller import Caller
from core.billing.history import History
from core.billing.receipt import Seal
from core.billing.receipt_book import ReceiptBook
from core.chain import debits
from core.chain.payment_contract import call_data
from core.errors import ChainUnavailable
from core.settlement import recovery
from core.settlement.fees import Fees
from core.settlement.journal import Attempt, JournalMoved
from core.settlement.settler import Settler
from tests.billing.accounts import Accounts, request_id
from tests.fakes.chain import CHAIN_ID
from tests.settlement.bench import GWEI, Bench, Killed, Lagging, at_first, killer

SENT = Attempt("0x", "0x", 1, 1, 0)
LOST_AT = ["planned", "signed", "journaled", "sent", "confirmed", "final"]
KILLED_AT = ["recover_epoch", "recover_burning", "recover_burned", "recover_read", "recover_written"]


@pytest.mark.asyncio
class TestTheFirstStart:
    async def test_uses_up_every_nonce_that_may_have_been_signed_for(self, bench: Bench) -> None:
        await bench.recovered(bench.settler())

        assert bench.next_nonce() == 17
        assert bench.redis.get(redis_keys.JOURNAL_NEXT) == "17"

    async def test_takes_what_was_debited_before_as_used_and_paid(self, bench: Bench) -> None:
        user = bench.user()
        bench.debited_by_hand(user, 400)

        await bench.recovered(bench.settler())

        assert bench.credit(user) == {"cum": 400, "settled": 400, "inflight": 0}
        assert bench.outstanding() == []

    async def test_adds_that_to_what_was_used_since(self, bench: Bench) -> None:
        user = bench.user()
        bench.debited_by_hand(user, 400)
        bench.uses(user, 30)

        settler = await bench.recovered(bench.settler())
        await bench.settle(settler)

        assert bench.debits(user) == [400, 30]
        assert bench.credit(user) == {"cum": 430, "settled": 430, "inflight": 0}

    async def test_tells_which_settlement_paid_what_was_used_since(self, bench: Bench, redis_url: str) -> None:
        user = bench.user()
        name, other = user.address.lower(), bench.user().address.lower()
        bench.debited_by_hand(user, 400)
        book, books = ReceiptBook(bench.store, Seal(CHAIN_ID, bench.contract)), Accounts(redis_url)
        for number, tokens in enumerate((30, 500)):
            books.charge(name, request_id(number), 0, tokens)
        books.charge(other, request_id(2), 0, 7)
        bench.redis.zadd(redis_keys.OUTSTANDING, {name: 1, other: 1})
        bench.redis.delete(redis_keys.charge(request_id(1)))  # as one whose life is over
        books.redis.close()

        await bench.settle(await bench.recovered(bench.settler()))

        page = await History(bench.store).page(Caller(name), 20, None)
        settlement, paid = page.settlements[0]
        assert len(page.settlements) == 1
        assert (settlement.from_cum, settlement.to_cum, paid) == (400, 930, [request_id(1), request_id(0)])
        assert bench.redis.hget(redis_keys.charge(request_id(0)), "cum") == "430"
        receipt = await book.look(name, request_id(0))
        assert receipt is not None
        assert receipt.typed_data["message"]["settlementTx"] == settlement.tx
        assert not bench.redis.exists(redis_keys.charge(request_id(1)))
        assert bench.redis.hget(redis_keys.charge(request_id(2)), "cum") == "7"

    async def test_writes_so_many_charges_in_one_step_and_each_user_in_one(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recovery, "BATCH_CHARGES", 2)
        users = [bench.user() for _ in range(4)]
        for user in users:
            bench.debited_by_hand(user, 400)
            for _ in range(3):
                bench.uses(user, 10)

        _killed_after(bench, "recover_write", times=2)

        with pytest.raises(Killed):
            await bench.recovered(bench.settler())
        written = [bench.credit(user) for user in users]
        await bench.recovered(bench.settler())

        assert sorted(map(len, written)) == [1, 1, 3, 3]  # the others only have what they used
        for user in users:
            scores: Any = bench.redis.zrange(redis_keys.charges(user.address.lower()), 0, -1, withscores=True)
            assert [score for _, score in scores] == [410, 420, 430]

    async def test_leaves_out_what_was_charged_again_since_it_may_be_paid(self, bench: Bench) -> None:
        user = bench.user()
        bench.debited_by_hand(user, 400)
        settler = bench.settler()
        await settler.tick()
        bench.mine(3)
        await settler.tick()
        assert bench.credit(user) == {}  # workers may still do it

        bench.uses(user, 30)
        bench.redis.hset(redis_keys.credit(user.address.lower()), "again", 20)
        await bench.recovered(settler)
        await bench.settle(settler)

        assert bench.debits(user) == [400, 10]
        assert bench.credit(user) == {"cum": 410, "settled": 410, "inflight": 0}


def _killed_after(bench: Bench, name: str, times: int) -> None:
    """The process ends when a script was run for the n-th time."""
    at, run = killer(name, times), bench.store.run

    async def watched(script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        reply = await run(script, keys, args)
        at(script)
        return reply

    bench.store.run = watched  # type: ignore[method-assign]


@pytest.mark.asyncio
class TestALostJournal:
    @pytest.mark.parametrize("step", LOST_AT)
    async def test_leaves_nothing_out_and_nothing_twice(self, bench: Bench, step: str) -> None:
        user, other = bench.user(), bench.user()
        await bench.recovered(bench.settler())
        bench.uses(user, 500)
        bench.uses(other, 900)
        with pytest.raises(Killed):
            await bench.settle(bench.settler(at=killer(step)))

        bench.lose_journal()
        bench.mine(1)
        settler = await bench.recovered(bench.settler())
        await bench.settle(settler)

        assert (bench.debits(user), bench.debits(other)) == ([500], [900])
        assert bench.credit(user) == {"cum": 500, "settled": 500, "inflight": 0}
        assert bench.credit(other) == {"cum": 900, "settled": 900, "inflight": 0}

    @pytest.mark.parametrize("step", KILLED_AT)
    async def test_is_made_anew_though_the_process_is_killed_meanwhile(self, bench: Bench, step: str) -> None:
        user = bench.user()
        await bench.recovered(bench.settler())
        bench.uses(user, 500)
        with pytest.raises(Killed):
            await bench.settler(at=killer("sent")).tick()
        bench.lose_journal()

        with pytest.raises(Killed):
            await bench.recovered(bench.settler(at=killer(step)))
        settler = await bench.recovered(bench.settler())
        await bench.settle(settler)

        assert bench.debits(user) == [500]
        assert bench.credit(user) == {"cum": 500, "settled": 500, "inflight": 0}

    async def test_waits_for_a_debit_that_is_signed_and_in_no_block_yet(self, bench: Bench) -> None:
        user = bench.user()
        await bench.recovered(bench.settler())
        bench.uses(user, 500)
        bench.automine(on=False)
        await bench.settler().tick()
        (nonce,) = bench.open()
        raw = bench.attempts(nonce)[0]["raw"]
        bench.drop(bench.attempts(nonce)[0]["hash"])
        bench.lose_journal()
        bench.automine(on=True)

        settler = await bench.recovered(bench.settler())
        bench.send_raw(raw)  # somebody kept it
        await bench.settle(settler)

        assert bench.debits(user) == [500]
        assert bench.credit(user) == {"cum": 500, "settled": 500, "inflight": 0}

    @pytest.mark.parametrize("blocks_between", [0, 1])
    async def test_drives_out_or_waits_for_a_debit_that_is_in_the_pool(self, bench: Bench, blocks_between: int) -> None:
        user = bench.user()
        await bench.recovered(bench.settler())
        bench.automine(on=False)
        bench.uses(user, 500)
        await bench.settler().tick()
        bench.lose_journal()
        settler = bench.settler()
        if not blocks_between:  # but for those without which no recovery sends anything: too dear for the debit
            await settler.tick()
            bench.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(60 * GWEI))
            bench.mine(3)
            assert bench.debits(user) == []
        for _ in range(12):
            await settler.tick()
            bench.mine(blocks_between)
            bench.clock.advance(5)
        bench.automine(on=True)
        bench.mine(1)
        bench.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        bench.mine(3)

        await bench.recovered(settler)
        await bench.settle(settler)

        assert bench.debits(user) == [500]
        assert bench.credit(user) == {"cum": 500, "settled": 500, "inflight": 0}

    async def test_is_one_that_was_written_under_another_redis(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        epoch = bench.redis.get(redis_keys.JOURNAL_EPOCH)
        bench.redis.set(redis_keys.JOURNAL_RUN, secrets.token_hex(20))  # as after a restart
        bench.uses(user, 10)

        await settler.tick()

        assert bench.status()["state"] == "recovering"
        assert bench.redis.get(redis_keys.JOURNAL_EPOCH) != epoch
        bench.mine(3)
        await bench.recovered(settler)
        await bench.settle(settler)
        assert bench.debits(user) == [10]

    async def test_is_one_whose_nonce_somebody_else_used(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.transfer_by_hand()
        bench.uses(user, 10)

        await settler.tick()
        assert bench.status()["state"] == "recovering"

        bench.mine(3)
        await bench.recovered(settler)
        await bench.settle(settler)
        assert bench.debits(user) == [10]

    async def test_is_one_whose_open_nonce_was_used_without_any_of_its_forms(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        bench.automine(on=False)
        await settler.tick()
        (nonce,) = bench.open()
        bench.drop(bench.attempts(nonce)[0]["hash"])
        bench.automine(on=True)
        bench.transfer_by_hand()

        await settler.tick()
        assert bench.status()["state"] == "ok"  # an endpoint may be late with a receipt
        bench.mine(4)
        await settler.tick()
        assert bench.status()["state"] == "recovering"

        bench.mine(3)
        await bench.recovered(settler)
        await bench.settle(settler)
        assert bench.debits(user) == [10]

    async def test_of_which_half_is_missing_is_lost(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await settler.tick()
        (nonce,) = bench.open()
        bench.redis.delete(redis_keys.journal_tx(nonce))

        await settler.tick()
        assert bench.status()["state"] == "recovering"

        bench.mine(3)
        await bench.recovered(settler)
        await bench.settle(settler)
        assert bench.debits(user) == [10]
        assert bench.credit(user) == {"cum": 10, "settled": 10, "inflight": 0}


@pytest.mark.asyncio
class TestAnEndpointThatIsBehind:
    async def test_and_leaves_events_out_makes_nobody_pay_twice(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        user, other = bench.user(), bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 40_000)
        bench.uses(other, 7)
        await bench.settle(settler)
        bench.restart_redis()
        Lagging(bench.opened).rules["eth_getLogs"] = at_first(1, [])

        settler = await bench.recovered(bench.settler())
        await bench.settle(settler)

        assert "read anew" in caplog.text
        assert (bench.debits(user), bench.debits(other)) == ([40_000], [7])
        assert bench.credit(user) == {"cum": 40_000, "settled": 40_000, "inflight": 0}
        assert (await settler.reconcile()).differing == []

    @pytest.mark.parametrize("is_gone", [True, False])
    async def test_with_an_old_nonce_makes_nobody_pay_twice(self, bench: Bench, is_gone: bool) -> None:
        users = [bench.user() for _ in range(16)]
        settler = await bench.recovered(bench.settler())
        block, nonce = bench.chain.rpc("eth_getBlockByNumber", "latest", False), hex(bench.next_nonce())
        for user in users[:4]:
            bench.uses(user, 1000)
        await bench.settle(settler)
        for user in users:
            bench.uses(user, 5000)
        before = bench.snapshot()
        forms = await _planned_and_kept(bench, settler)
        lagging = Lagging(bench.opened)
        if is_gone:  # all of it; the endpoint is behind for a turn
            bench.lose_journal()
            heads, nonces = at_first(2, block), at_first(3, nonce)
            lagging.rules["eth_getBlockByNumber"] = lambda at, _: heads() if at == "latest" else None
            lagging.rules["eth_getTransactionCount"] = lambda _, at: nonces() if at in ("latest", "pending") else None
        else:  # only the last second, with the plans; whatever the endpoint thinks
            bench.roll_back(before)
            lagging.rules["eth_getTransactionCount"] = at_first(8, nonce)

        await _planned_again(bench)
        _mined_first(bench, forms)
        await bench.settle(await bench.recovered(bench.settler()), turns=12)

        assert [sum(bench.debits(user)) for user in users] == [6000] * 4 + [5000] * 12

    async def test_with_a_call_that_fails_goes_on_from_there(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(debits, "AT_ONCE", 1)
        users = [bench.user() for _ in range(5)]
        settler = await bench.recovered(bench.settler())
        for user in users:
            bench.uses(user, 10)
        await bench.settle(settler)
        bench.restart_redis()
        calls, asked = [call_data("getUserCredit", user.address.lower()) for user in users], Counter[str]()

        def each_fails_once(call: dict[str, str], _: str) -> None:
            asked[call["data"]] += 1
            if call["data"] in calls and asked[call["data"]] == 1:
                raise ChainUnavailable

        Lagging(bench.opened).rules["eth_call"] = each_fails_once
        settler = bench.settler()
        for _ in range(20):
            await settler.tick()
            bench.mine(1)
            bench.clock.advance(5)

        assert bench.status()["state"] == "ok"
        assert [asked[each] for each in calls] == [2] * 5

    async def test_for_long_is_waited_for(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await bench.settle(settler)
        bench.restart_redis()
        lagging = Lagging(bench.opened)
        lagging.rules["eth_getLogs"] = lambda *_: []
        settler = bench.settler()
        for _ in range(12):
            await settler.tick()
            bench.clock.advance(5)
            bench.mine(3)

        assert bench.status()["state"] == "chain unavailable"
        assert bench.debits(user) == [10]
        lagging.rules.clear()
        await bench.recovered(settler)
        await bench.settle(settler)
        assert bench.debits(user) == [10]
        assert bench.credit(user) == {"cum": 10, "settled": 10, "inflight": 0}


async def _planned_and_kept(bench: Bench, settler: Settler) -> dict[int, dict[str, Any]]:
    """Debits are sent; the endpoint's pool forgets them, and somebody else has them. By nonce."""
    bench.automine(on=False)
    await settler.tick()
    forms = {nonce: bench.attempts(nonce)[0] for nonce in bench.open()}
    for form in forms.values():
        bench.drop(form["hash"])
    bench.automine(on=True)
    return forms


async def _planned_again(bench: Bench) -> None:
    """A recovery, and debits of which none is mined."""

    def at(step: str) -> None:
        if step == "recover_written":
            bench.automine(on=False)

    settler = bench.settler(at=at)
    while not bench.open():
        await settler.tick()
        bench.clock.advance(5)
        if not bench.open():
            bench.mine(3)


def _mined_first(bench: Bench, forms: dict[int, dict[str, Any]]) -> None:
    """Those who make blocks heard of these forms first."""
    for nonce in bench.open():
        if nonce in forms:
            bench.drop(bench.attempts(nonce)[0]["hash"])
    for form in forms.values():
        bench.send_raw(form["raw"])
    bench.mine(1)
    bench.automine(on=True)


@pytest.mark.asyncio
class TestALedgerThatWasRolledBack:
    async def test_gets_its_commits_back_before_it_is_lifted(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await bench.settle(settler)
        bench.redis.hset(redis_keys.credit(user.address.lower()), mapping={"cum": 4, "settled": 0})
        bench.redis.set(redis_keys.JOURNAL_RUN, secrets.token_hex(20))
        settler = bench.settler()
        await settler.tick()
        bench.mine(3)
        await settler.tick()
        assert bench.credit(user)["cum"] == 4

        bench.uses(user, 6)  # a worker repeats what was lost
        await bench.recovered(settler)

        assert bench.credit(user) == {"cum": 10, "settled": 10, "inflight": 0}

    async def test_is_lifted_when_nobody_repeats_them(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await bench.settle(settler)
        bench.redis.hset(redis_keys.credit(user.address.lower()), mapping={"cum": 4, "settled": 0})
        bench.redis.set(redis_keys.JOURNAL_RUN, secrets.token_hex(20))

        settler = await bench.recovered(bench.settler())

        assert bench.credit(user) == {"cum": 10, "settled": 10, "inflight": 0}
        bench.uses(user, 5)
        await bench.settle(settler)
        assert bench.debits(user) == [10, 5]

    async def test_a_user_whose_first_debit_was_forgotten_does_not_pay_twice(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await settler.tick()
        assert bench.debits(user) == [10]
        bench.redis.hdel(redis_keys.credit(user.address.lower()), "settled", "inflight")
        bench.redis.set(redis_keys.JOURNAL_RUN, secrets.token_hex(20))

        settler = await bench.recovered(bench.settler())
        await bench.settle(settler)

        assert bench.debits(user) == [10]
        assert bench.credit(user) == {"cum": 10, "settled": 10, "inflight": 0}


@pytest.mark.asyncio
class TestAnEarlierLife:
    async def test_can_plan_write_and_end_nothing(self, bench: Bench) -> None:
        user, other = bench.user(), bench.user()
        name = user.address.lower()
        settler = await bench.recovered(bench.settler())
        journal = bench.journal()
        old = await journal.look()
        assert old.next is not None
        bench.uses(user, 10)
        tx = await journal.plan(old.epoch, old.next, name, 10, 16)
        assert tx is not None
        bench.redis.set(redis_keys.JOURNAL_RUN, secrets.token_hex(20))
        assert await journal.close(tx, None) is False
        await bench.recovered(settler)
        bench.uses(other, 10)
        before = bench.credit(user), bench.credit(other)

        assert await journal.append(tx, SENT) is False
        assert await journal.close(tx, None) is False
        with pytest.raises(JournalMoved):
            await journal.plan(old.epoch, old.next, other.address.lower(), 10, 16)
        new = await journal.look()
        with pytest.raises(JournalMoved):
            await journal.plan(old.epoch, new.next or 0, other.address.lower(), 10, 16)

        assert (bench.credit(user), bench.credit(other)) == before

    async def test_is_also_one_whose_redis_was_restarted_since(self, bench: Bench) -> None:
        user = bench.user()
        await bench.recovered(bench.settler())
        journal = bench.journal()
        view = await journal.look()
        bench.uses(user, 10)
        bench.redis.set(redis_keys.JOURNAL_RUN, secrets.token_hex(20))

        with pytest.raises(JournalMoved):
            await journal.plan(view.epoch, view.next or 0, user.address.lower(), 10, 16)

    @pytest.mark.parametrize("half", ["epoch", "open"])
    async def test_writes_no_form_when_only_half_of_it_is_gone(self, bench: Bench, half: str) -> None:
        user = bench.user()
        await bench.recovered(bench.settler())
        journal = bench.journal()
        view = await journal.look()
        bench.uses(user, 10)
        tx = await journal.plan(view.epoch, view.next or 0, user.address.lower(), 10, 16)
        assert tx is not None
        bench.redis.delete(f"{redis_keys.PREFIX}:journal:{half}")

        assert await journal.append(tx, SENT) is False

    async def test_a_form_is_written_once_and_in_order(self, bench: Bench) -> None:
        user = bench.user()
        await bench.recovered(bench.settler())
        journal = bench.journal()
        view = await journal.look()
        bench.uses(user, 10)
        tx = await journal.plan(view.epoch, view.next or 0, user.address.lower(), 10, 16)
        assert tx is not None

        assert [await journal.append(tx, SENT) for _ in range(2)] == [True, False]
        assert (await journal.look()).open[0].attempts == (SENT,)
        assert SENT.fees == Fees(1, 1)

    async def test_two_that_recover_at_once_come_to_an_end(self, bench: Bench) -> None:
        user = bench.user()
        bench.uses(user, 10)
        first, second = bench.settler(), bench.settler()
        for _ in range(30):
            await bench.both(first, second)
            bench.mine(3)
            bench.clock.advance(5)

        assert bench.debits(user) == [10]
        assert bench.credit(user) == {"cum": 10, "settled": 10, "inflight": 0}
