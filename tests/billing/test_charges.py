"""Paid requests: held before they are served, noted on the way, charged once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from core import redis_keys
from core.access.grant import Grant
from core.billing.charges import LIFE_S
from core.billing.ledger import KeptAnswer, Totals
from core.billing.reaper import Reaper
from core.errors import InsufficientCredit, TooMuchUnsettled, Unauthenticated
from core.inference.completion import Paid
from core.store import Store, open_store
from tests.access.gates import ADA, BOB
from tests.billing.paying import LATENCY_MS, LEASE_S, NODE, RICH, Books, charges_over, ledger_over, reserve, usage

DEAD = 0  # a lease that ends at once


@pytest.fixture
def books(redis_url: str) -> Iterator[Books]:
    """What stands in Redis."""
    opened = Books(redis_url)
    yield opened
    opened.redis.close()


async def charged(store: Store, grant: Grant, prompt: int, completion: int) -> Paid | None:
    """The answer is there."""
    return await ledger_over(store).commit(grant, usage(prompt, completion), NODE, LATENCY_MS)


async def noted(store: Store, grant: Grant, prompt: int, completion: int, *, lease_s: int = LEASE_S) -> None:
    """So much of it has left."""
    await ledger_over(store, lease_s=lease_s).checkpoint(grant, usage(prompt, completion), NODE)


@pytest.mark.asyncio
class TestReserve:
    async def test_holds_the_tokens_of_a_request(self, store: Store, books: Books) -> None:
        grant = await reserve(charges_over(store), "req_1", 100)

        assert grant.charge is not None
        assert (grant.charge.price, grant.charge.balance, grant.charge.reserved) == (1000, RICH, 100)
        assert books.credit() == {"cum": 0, "settled": 0, "inflight": 0, "reserved": 100, "debt": 0}
        assert books.charge("req_1")["state"] == "reserved"
        assert books.lease_end("req_1") is not None

    @pytest.mark.parametrize(("wanted", "fits"), [(70, True), (71, False)])
    async def test_counts_what_is_held_and_what_is_used_but_not_what_is_paid(
        self, store: Store, books: Books, wanted: int, fits: bool
    ) -> None:
        charges = charges_over(store)
        await charged(store, await reserve(charges, "req_used", 50), 10, 30)
        books.settle(20)
        await reserve(charges, "req_held", 10)

        if fits:
            await reserve(charges, "req_1", wanted, deposit=100)
        else:
            with pytest.raises(InsufficientCredit) as refusal:
                await reserve(charges, "req_1", wanted, deposit=100)
            assert refusal.value.details == {
                "required_plm": "0.000000000000000071", "available_plm": "0.00000000000000007",
            }  # fmt: skip
        assert books.credit()["reserved"] == (80 if fits else 10)

    async def test_what_is_refused_leaves_nothing_behind(self, store: Store, books: Books) -> None:
        with pytest.raises(InsufficientCredit):
            await reserve(charges_over(store), "req_1", 101, deposit=100)

        assert books.credit()["reserved"] == 0
        assert books.charge("req_1") == {}
        assert books.lease_end("req_1") is None

    async def test_one_request_may_be_over_the_cap_when_it_is_the_only_one(self, store: Store) -> None:
        await reserve(charges_over(store, most_unsettled=50), "req_1", 100)

    async def test_the_cap_holds_for_all_that_are_under_way_together(self, store: Store, books: Books) -> None:
        charges = charges_over(store, most_unsettled=50)
        await reserve(charges, "req_1", 30)
        await reserve(charges, "req_2", 20)

        with pytest.raises(TooMuchUnsettled) as refusal:
            await reserve(charges, "req_3", 1)

        assert refusal.value.headers["Retry-After"] == "5"
        assert books.credit()["reserved"] == 50

    async def test_the_cap_opens_again_as_soon_as_the_chain_has_paid(self, store: Store, books: Books) -> None:
        charges = charges_over(store, most_unsettled=50)
        await charged(store, await reserve(charges, "req_1", 50), 10, 40)
        with pytest.raises(TooMuchUnsettled):
            await reserve(charges, "req_2", 10)
        books.settle(40)

        await reserve(charges, "req_2", 10)

    async def test_who_is_in_debt_pays_first(self, store: Store, books: Books) -> None:
        books.redis.hset(redis_keys.credit(ADA.subject), "debt", "1")

        with pytest.raises(InsufficientCredit):
            await reserve(charges_over(store), "req_1", 1)
        await reserve(charges_over(store), "req_2", 1, caller=BOB)

    async def test_a_revoked_token_holds_nothing(self, store: Store, books: Books) -> None:
        await store.set(redis_keys.revoked(ADA.token_id or ""), "1", 60)

        with pytest.raises(Unauthenticated):
            await reserve(charges_over(store), "req_1")

        assert books.credit()["reserved"] == 0

    async def test_the_same_request_is_held_once(self, store: Store, books: Books) -> None:
        charges = charges_over(store)

        await asyncio.gather(*(reserve(charges, "req_1", 100, deposit=100) for _ in range(10)))

        assert books.credit()["reserved"] == 100

    async def test_many_at_once_in_two_workers_never_hold_more_than_the_deposit(
        self, redis_url: str, books: Books
    ) -> None:
        async with open_store(redis_url, timeout_s=10) as one, open_store(redis_url, timeout_s=10) as two:
            desks = charges_over(one), charges_over(two)
            asked = [reserve(desks[i % 2], f"req_{i}", 10, deposit=105) for i in range(60)]
            got = await asyncio.gather(*asked, return_exceptions=True)

        assert sum(isinstance(one, Grant) for one in got) == 10
        assert sum(isinstance(one, InsufficientCredit) for one in got) == 50
        assert books.credit()["reserved"] == 100


@pytest.mark.asyncio
class TestCheckpoint:
    async def test_notes_what_has_left_without_charging_it(self, store: Store, books: Books) -> None:
        await noted(store, await reserve(charges_over(store), "req_1"), 8, 5)

        charge = books.charge("req_1")
        assert (charge["state"], charge["tokens"], charge["node"]) == ("reserved", "13", NODE.address)
        assert (books.credit()["cum"], books.credit()["reserved"]) == (0, 100)

    async def test_only_grows(self, store: Store, books: Books) -> None:
        grant = await reserve(charges_over(store), "req_1")
        for completion in (5, 9, 7):
            await noted(store, grant, 8, completion)

        assert books.charge("req_1")["tokens"] == "17"

    async def test_prolongs_the_lease(self, store: Store, books: Books) -> None:
        grant = await reserve(charges_over(store, lease_s=10), "req_1")
        before = books.lease_end("req_1") or 0

        await noted(store, grant, 8, 5, lease_s=100)

        assert (books.lease_end("req_1") or 0) >= before + 89_000

    async def test_after_the_end_changes_nothing(self, store: Store, books: Books) -> None:
        grant = await reserve(charges_over(store), "req_1")
        await charged(store, grant, 8, 5)
        before = books.charge("req_1")

        await noted(store, grant, 8, 50)

        assert books.charge("req_1") == before
        assert books.lease_end("req_1") is None


@pytest.mark.asyncio
class TestCharge:
    async def test_ends_the_request_and_says_what_it_cost(self, store: Store, books: Books) -> None:
        grant = await reserve(charges_over(store), "req_1", 100, deposit=1000)

        assert await charged(store, grant, 8, 5) == Paid(cost=13, left=987)
        assert books.credit() == {"cum": 13, "settled": 0, "inflight": 0, "reserved": 0, "debt": 0}
        charge = books.charge("req_1")
        assert (charge["state"], charge["tokens"], charge["cum"]) == ("committed", "13", "13")
        assert books.lease_end("req_1") is None
        assert books.redis.zscore(redis_keys.charges(ADA.subject), "req_1") == 13
        assert books.redis.zscore(redis_keys.OUTSTANDING, ADA.subject) == float(charge["at"])
        assert 0 < books.redis.ttl(redis_keys.charge("req_1")) <= LIFE_S

    async def test_however_often_it_is_sent_it_counts_once(self, store: Store, books: Books) -> None:
        charges = charges_over(store)
        await reserve(charges, "req_other", 50)
        grant = await reserve(charges, "req_1")

        paid = await asyncio.gather(*(charged(store, grant, 8, 5) for _ in range(10)))

        assert {one.cost for one in paid if one is not None} == {13}
        assert (books.credit()["cum"], books.credit()["reserved"]) == (13, 50)
        assert await ledger_over(store).totals() == Totals(answers=1, prompt_tokens=8, completion_tokens=5)
        assert books.answers()["latency_ms"] == str(LATENCY_MS)

    async def test_of_a_reaped_request_adds_what_is_more_than_its_checkpoint(self, store: Store, books: Books) -> None:
        grant = await reserve(charges_over(store), "req_1")
        await noted(store, grant, 8, 5, lease_s=DEAD)
        await Reaper(store).reap()
        assert books.credit()["cum"] == 13

        await charged(store, grant, 8, 20)

        assert (books.credit()["cum"], books.credit()["reserved"]) == (28, 0)
        assert await ledger_over(store).totals() == Totals(answers=1, prompt_tokens=8, completion_tokens=20)
        assert await ledger_over(store).node_totals(NODE.url) == await ledger_over(store).totals()
        assert books.redis.zscore(redis_keys.charges(ADA.subject), "req_1") == 28

    async def test_that_is_less_than_before_gives_nothing_back(self, store: Store, books: Books) -> None:
        grant = await reserve(charges_over(store), "req_1")
        await charged(store, grant, 8, 20)

        assert await charged(store, grant, 8, 5) == Paid(cost=28, left=RICH - 28)
        assert books.credit()["cum"] == 28
        assert books.charge("req_1")["completion_tokens"] == "20"

    async def test_keeps_the_answer_in_the_same_step_and_the_first_one_stays(self, store: Store) -> None:
        grant, ledger = await reserve(charges_over(store), "req_1"), ledger_over(store)
        key = redis_keys.kept_answer(ADA.subject, "key")

        for text in ("first", "second"):
            await ledger.commit(grant, usage(8, 5), NODE, LATENCY_MS, KeptAnswer(key, text, 60))

        assert await store.get(key) == "first"

    async def test_after_a_void_it_is_charged_all_the_same(self, store: Store, books: Books) -> None:
        charges = charges_over(store)
        await reserve(charges, "req_other", 50)
        grant = await reserve(charges, "req_1")
        await ledger_over(store).hand_back(grant)

        await charged(store, grant, 8, 5)

        assert (books.credit()["cum"], books.credit()["reserved"]) == (13, 50)
        assert books.charge("req_1")["state"] == "committed"

    async def test_that_redis_has_lost_is_charged_and_releases_nothing(self, store: Store, books: Books) -> None:
        charges = charges_over(store)
        grant = await reserve(charges, "req_1")
        books.redis.flushall()
        await reserve(charges, "req_other", 50)

        await charged(store, grant, 8, 5)

        assert (books.credit()["cum"], books.credit()["reserved"]) == (13, 50)
        assert books.charge("req_1")["user"] == ADA.subject

    async def test_who_has_paid_all_owes_since_his_next_answer(self, store: Store, books: Books) -> None:
        charges = charges_over(store)
        await charged(store, await reserve(charges, "req_1"), 8, 5)
        since = books.redis.zscore(redis_keys.OUTSTANDING, ADA.subject)

        await charged(store, await reserve(charges, "req_2"), 8, 5)

        assert books.redis.zscore(redis_keys.OUTSTANDING, ADA.subject) == since

    async def test_what_is_left_counts_what_others_of_the_user_have_used(self, store: Store) -> None:
        charges = charges_over(store)
        one, two = [await reserve(charges, f"req_{i}", deposit=1000) for i in range(2)]
        await charged(store, one, 8, 5)

        assert await charged(store, two, 1, 1) == Paid(cost=2, left=985)


@pytest.mark.asyncio
class TestVoid:
    async def test_releases_the_tokens_once(self, store: Store, books: Books) -> None:
        charges = charges_over(store)
        await reserve(charges, "req_other", 50)
        grant = await reserve(charges, "req_1")

        for _ in range(3):
            await ledger_over(store).hand_back(grant)

        assert (books.credit()["cum"], books.credit()["reserved"]) == (0, 50)
        assert books.charge("req_1")["state"] == "void"
        assert books.lease_end("req_1") is None

    async def test_never_ends_what_has_begun_to_leave(self, store: Store, books: Books) -> None:
        grant = await reserve(charges_over(store), "req_1")
        await noted(store, grant, 8, 1)

        await ledger_over(store).hand_back(grant)

        assert books.charge("req_1")["state"] == "reserved"
        assert books.credit()["reserved"] == 100

    async def test_takes_back_no_charge(self, store: Store, books: Books) -> None:
        grant = await reserve(charges_over(store), "req_1")
        await charged(store, grant, 8, 5)

        await ledger_over(store).hand_back(grant)

        assert (books.credit()["cum"], books.charge("req_1")["state"]) == (13, "committed")


@pytest.mark.asyncio
class TestReaper:
    async def test_charges_a_killed_worker_s_user_what_had_left(self, store: Store, books: Books) -> None:
        grant = await reserve(charges_over(store), "req_1")
        await noted(store, grant, 8, 5, lease_s=DEAD)

        assert [await Reaper(store).reap(), await Reaper(store).reap()] == [1, 0]
        assert (books.credit()["cum"], books.credit()["reserved"]) == (13, 0)
        charge = books.charge("req_1")
        assert (charge["state"], charge["model"], charge["price"]) == ("committed", "small", "1000")
        assert (await ledger_over(store).node_totals(NODE.url))["answers"] == 1

    async def test_charges_nothing_when_nothing_had_left(self, store: Store, books: Books) -> None:
        await reserve(charges_over(store, lease_s=DEAD), "req_1")

        assert await Reaper(store).reap() == 1
        assert (books.credit()["cum"], books.credit()["reserved"]) == (0, 0)
        assert books.charge("req_1")["state"] == "void"

    async def test_leaves_alone_who_still_serves(self, store: Store, books: Books) -> None:
        await reserve(charges_over(store), "req_1")

        assert await Reaper(store).reap() == 0
        assert books.credit()["reserved"] == 100

    async def test_many_at_once_end_each_request_once(self, redis_url: str, books: Books) -> None:
        async with open_store(redis_url, timeout_s=10) as one, open_store(redis_url, timeout_s=10) as two:
            charges = charges_over(one, lease_s=DEAD)
            for i in range(40):
                grant = await reserve(charges, f"req_{i}", 10)
                if i % 2:
                    await noted(one, grant, 1, 2, lease_s=DEAD)
            await asyncio.gather(*(Reaper(store, batch=7).reap() for store in (one, two) * 3))

        assert (books.credit()["cum"], books.credit()["reserved"]) == (60, 0)
        assert books.answers()["answers"] == "20"

    async def test_entries_that_nobody_could_have_written_are_dropped(self, store: Store, books: Books) -> None:
        books.redis.zadd(redis_keys.RESERVATIONS, {"garbage": 0, "a b c": 0, "": 0, "0xa req_gone": 0})

        await Reaper(store).reap()

        assert books.redis.zcard(redis_keys.RESERVATIONS) == 0
