"""What a user has paid: pages of his settlements, each with its requests, and nobody else's."""

from __future__ import annotations

import pytest

from core.billing.history import MOST_REQUESTS, History, Page
from core.errors import PaymentOff
from core.store import Store
from tests.access.gates import ADA, BOB
from tests.billing.accounts import PRICE, Accounts, request_id, tx

ALL = [request_id(number) for number in range(10)]


def transactions(page: Page) -> list[str]:
    """Their hashes."""
    return [settled.tx for settled, _ in page.settlements]


@pytest.mark.asyncio
class TestHistory:
    async def test_of_a_stranger_is_empty(self, store: Store) -> None:
        assert await History(store).page(ADA, 20, None) == Page([], 0, [], None)

    async def test_names_the_requests_of_each_settlement_and_those_that_wait(
        self, store: Store, accounts: Accounts
    ) -> None:
        for name in ALL[:3]:
            accounts.charge(ADA.subject, name, 4, 6)
        accounts.settle(ADA.subject, 20, tx(1))
        accounts.settle(ADA.subject, 10, tx(2))
        accounts.charge(ADA.subject, ALL[3], 1, 2)
        accounts.charge(ADA.subject, ALL[4], 1, 3)

        page = await History(store).page(ADA, 20, None)

        assert [(settled.tx, requests) for settled, requests in page.settlements] == [
            (tx(2), [ALL[2]]),
            (tx(1), [ALL[1], ALL[0]]),
        ]
        newest = page.settlements[0][0]
        assert (newest.tokens, newest.cost_wei, newest.block) == (10, str(10 * PRICE // 1000), 7)
        assert (page.unsettled_tokens, page.unsettled_requests, page.next) == (7, [ALL[4], ALL[3]], None)

    async def test_an_answer_that_is_paid_in_two_parts_is_named_with_its_last_token(
        self, store: Store, accounts: Accounts
    ) -> None:
        accounts.charge(ADA.subject, ALL[0], 4, 6)
        accounts.settle(ADA.subject, 7, tx(1))

        first = await History(store).page(ADA, 20, None)
        accounts.settle(ADA.subject, 3, tx(2))
        then = await History(store).page(ADA, 20, None)

        assert (first.settlements[0][1], first.unsettled_tokens, first.unsettled_requests) == ([], 3, [ALL[0]])
        assert [requests for _, requests in then.settlements] == [[ALL[0]], []]
        assert (then.unsettled_tokens, then.unsettled_requests) == (0, [])

    async def test_is_nobody_elses(self, store: Store, accounts: Accounts) -> None:
        accounts.charge(ADA.subject, ALL[0], 4, 6)
        accounts.settle(ADA.subject, 10, tx(1))

        assert await History(store).page(BOB, 20, None) == Page([], 0, [], None)

    async def test_pages_follow_each_other_without_a_gap(self, store: Store, accounts: Accounts) -> None:
        for number, name in enumerate(ALL):
            accounts.charge(ADA.subject, name, 1, number)
            accounts.settle(ADA.subject, 1 + number, tx(number))
        history, seen, before = History(store), [], None

        while True:
            page = await history.page(ADA, 4, before)
            seen.append(transactions(page))
            before = page.next
            if before is None:
                break

        assert [len(part) for part in seen] == [4, 4, 2]
        assert [hash_ for part in seen for hash_ in part] == [tx(number) for number in reversed(range(10))]

    async def test_a_full_last_page_has_no_next(self, store: Store, accounts: Accounts) -> None:
        for number in range(4):
            accounts.settle(ADA.subject, 1, tx(number))

        assert (await History(store).page(ADA, 4, None)).next is None
        assert (await History(store).page(ADA, 3, None)).next == 2

    async def test_stays_exact_for_a_heavy_user(self, store: Store, accounts: Accounts) -> None:
        many = 2**52 + 1
        accounts.charge(ADA.subject, ALL[0], many, 0)
        accounts.charge(ADA.subject, ALL[1], 1, 0)
        accounts.settle(ADA.subject, many, tx(1))
        accounts.settle(ADA.subject, 1, tx(2))
        accounts.charge(ADA.subject, ALL[2], 0, 1)

        page = await History(store).page(ADA, 20, None)

        assert [requests for _, requests in page.settlements] == [[ALL[1]], [ALL[0]]]
        assert (page.unsettled_tokens, page.unsettled_requests) == (1, [ALL[2]])

    async def test_lists_a_bounded_number_of_requests(self, store: Store, accounts: Accounts) -> None:
        for number in range(MOST_REQUESTS + 5):
            accounts.charge(ADA.subject, request_id(number), 1, 0)

        page = await History(store).page(ADA, 20, None)

        assert page.unsettled_tokens == MOST_REQUESTS + 5
        assert page.unsettled_requests == [request_id(number) for number in range(MOST_REQUESTS + 4, 4, -1)]

    async def test_is_off_without_a_contract(self) -> None:
        with pytest.raises(PaymentOff):
            await History(None).page(ADA, 20, None)
