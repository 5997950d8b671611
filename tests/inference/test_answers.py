"""Answers that outlive their link: left and resumed at any place, on their worker and from another one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from core import redis_keys
from core.auth.caller import Caller
from core.billing.ledger import Ledger
from core.errors import (
    AnswerExists,
    AnswerLost,
    AnswerMoved,
    GatewayError,
    NodesFailed,
    ShuttingDown,
    StoreUnavailable,
    UnknownAnswer,
)
from core.inference.answers.book import ENTRY
from core.inference.answers.messages import Found, Place, Resume, encode
from core.inference.requests import InferenceRequest
from core.store import Store, open_store
from tests.access.gates import ADA, ASKED, BOB
from tests.fakes.redis_server import RedisServer
from tests.inference.answer_workers import Client, Script, Worker, open_worker, until

LETTERS = [["a", "b"], ["c"], ["d", "e", "f"], ["g"]]
LONG = InferenceRequest(model="small", prompt="hi", max_tokens=2048)


@pytest.fixture
def script() -> Script:
    """The node."""
    return Script(LETTERS)


@pytest_asyncio.fixture
async def here(redis_url: str, store: Store, script: Script) -> AsyncIterator[Worker]:
    """The worker that makes the answers."""
    async with open_worker(redis_url, store, script) as worker:
        yield worker
        await until(lambda: len(worker.relay) == 0)


@pytest_asyncio.fixture
async def there(redis_url: str, store: Store, script: Script) -> AsyncIterator[Worker]:
    """Another worker."""
    async with open_worker(redis_url, store, script) as worker:
        yield worker
        await until(lambda: len(worker.relay) == 0)


@pytest.fixture(params=["here", "there"])
def back(request: pytest.FixtureRequest, here: Worker, there: Worker) -> Worker:
    """The worker to which the client comes back."""
    return here if request.param == "here" else there


async def ended(client: Client) -> None:
    """Until a client has the end, or an error."""
    await until(lambda: client.outcome is not None)


async def tokens_counted(store: Store) -> tuple[int, int]:
    """Answers and their tokens, as the account has them."""
    totals = await Ledger(store).totals()
    return totals["answers"], totals["completion_tokens"]


@pytest.mark.asyncio
class TestAnAnswerThatIsHeardToItsEnd:
    async def test_comes_in_numbered_pieces_and_is_counted_before_its_end(self, here: Worker, store: Store) -> None:
        client = Client()
        answer = here.answers.start(ADA, ASKED, "one", client)
        await answer.wait()

        assert (client.text, client.last) == ("abcdefg", 7)
        assert client.ended.id.startswith("req_")
        assert (client.ended.model, client.ended.finish_reason, client.ended.cancelled) == ("small", "stop", False)
        assert client.ended.usage.completion_tokens == 7
        assert await tokens_counted(store) == (1, 7)

    async def test_tells_what_went_wrong_at_any_time(self, here: Worker, script: Script) -> None:
        refused, failed = Client(), Client()
        await here.answers.start(ADA, InferenceRequest(model="no such"), None, refused).wait()
        script.failure = NodesFailed()
        await here.answers.start(ADA, ASKED, None, failed).wait()

        assert isinstance(refused.outcome, GatewayError)
        assert refused.outcome.text == "Model no such not found"
        assert isinstance(failed.outcome, NodesFailed)

    async def test_waits_for_a_slow_listener(self, here: Worker, script: Script) -> None:
        client = Client()
        client.gate.clear()
        here.answers.start(ADA, ASKED, None, client)
        await until(lambda: client.calls == 1)
        await asyncio.sleep(0.05)

        assert script.said == 1
        client.gate.set()
        await ended(client)
        assert client.text == "abcdefg"

    async def test_leaves_nothing_behind_without_a_name(self, here: Worker) -> None:
        await here.answers.start(ADA, ASKED, None, Client()).wait()

        await until(lambda: len(here.book) == 0 and here.book.used == 0)

    async def test_keeps_its_name_for_the_window(self, redis_url: str, store: Store, script: Script) -> None:
        async with open_worker(redis_url, store, script, window_s=0.3) as worker:
            await worker.answers.start(ADA, ASKED, "one", Client()).wait()
            with pytest.raises(AnswerExists):
                worker.answers.start(ADA, ASKED, "one", Client())
            worker.answers.start(BOB, ASKED, "one", Client())

            await until(lambda: len(worker.book) == 0 and worker.book.used == 0)
            worker.answers.start(ADA, ASKED, "one", Client())


@pytest.mark.asyncio
class TestALinkThatIsLost:
    async def test_the_answer_goes_on_and_is_resumed_behind_any_piece(
        self, here: Worker, back: Worker, script: Script, store: Store
    ) -> None:
        first = Client()
        script.gate.clear()
        answer = here.answers.start(ADA, ASKED, "one", first)
        answer.detach()
        script.gate.set()
        await until(lambda: script.said == len(LETTERS))

        for after in range(9):
            client = Client()
            await (await back.answers.resume(ADA, "one", after, client)).wait()
            assert client.text == "abcdefg"[after:]
            assert client.ended.usage.completion_tokens == 7
        assert await tokens_counted(store) == (1, 7)
        assert first.texts == []

    async def test_what_comes_later_follows_what_was_missed(self, here: Worker, back: Worker, script: Script) -> None:
        first, second = Client(), Client()
        first.gate.clear()
        answer = here.answers.start(ADA, ASKED, "one", first)
        await until(lambda: first.calls == 1)
        script.gate.clear()
        answer.detach()
        await back.answers.resume(ADA, "one", 1, second)
        await until(lambda: second.text == "b")
        script.gate.set()
        await ended(second)

        assert first.text == "ab"
        assert second.text == "bcdefg"

    async def test_a_listener_that_is_gone_is_as_good_as_detached(
        self, here: Worker, back: Worker, script: Script
    ) -> None:
        gone, second = Client(), Client()
        gone.gone = True
        await here.answers.start(ADA, ASKED, "one", gone).wait()
        await (await back.answers.resume(ADA, "one", 0, second)).wait()

        assert second.text == "abcdefg"

    async def test_an_answer_without_a_name_is_stopped_at_once(
        self, here: Worker, script: Script, store: Store
    ) -> None:
        client = Client()
        client.gate.clear()
        answer = here.answers.start(ADA, ASKED, None, client)
        await until(lambda: client.calls == 1)
        answer.detach()
        await until(lambda: len(here.book) == 0 and script.closed == 1)

        assert (await tokens_counted(store))[0] == 1

    async def test_nobody_coming_back_the_answer_is_stopped_and_counted_once(
        self, redis_url: str, store: Store
    ) -> None:
        script = Script([["a"]] * 1000, pause_s=0.01)
        async with open_worker(redis_url, store, script, window_s=0.2) as worker:
            client = Client()
            answer = worker.answers.start(ADA, LONG, "one", client)
            await until(lambda: client.last >= 1)
            answer.detach()
            await until(lambda: len(worker.book) == 0)
            await until(lambda: script.closed == 1)
            with pytest.raises(UnknownAnswer):
                await worker.answers.resume(ADA, "one", 0, Client())
        answers, tokens = await tokens_counted(store)

        assert answers == 1
        assert client.last <= tokens == script.said < 1000

    async def test_an_error_waits_for_the_client_too(self, here: Worker, back: Worker, script: Script) -> None:
        script.failure = NodesFailed("The answer was cut off by its node.")
        here.answers.start(ADA, ASKED, "one", Client()).detach()
        client = Client()
        await (await back.answers.resume(ADA, "one", 0, client)).wait()

        assert isinstance(client.outcome, NodesFailed)
        assert client.outcome.text == "The answer was cut off by its node."
        assert client.outcome.headers == {"Retry-After": "1"}


@pytest.mark.asyncio
class TestTwoWhoListen:
    async def test_the_newest_wins_and_the_former_is_told(self, here: Worker, back: Worker, script: Script) -> None:
        clients = [Client() for _ in range(4)]
        clients[0].gate.clear()  # it hangs: nobody waits for it
        answer = here.answers.start(ADA, ASKED, "one", clients[0])
        await until(lambda: clients[0].calls == 1)
        script.gate.clear()
        for client in clients[1:]:
            await back.answers.resume(ADA, "one", 0, client)
            await until(lambda: client.text[:2] == "ab")  # noqa: B023 - it is waited for here
        answer.detach()  # of the first, long gone: the last one is not disturbed
        script.gate.set()
        await ended(clients[3])

        assert clients[3].text == "abcdefg"
        for client in clients[:3]:
            await ended(client)
            assert isinstance(client.outcome, AnswerMoved)
            assert client.text == "ab"


@pytest.mark.asyncio
class TestStopping:
    async def test_the_node_stops_and_what_left_is_counted(
        self, here: Worker, back: Worker, script: Script, store: Store
    ) -> None:
        script.batches = [["a"]] * 1000
        script.pause_s = 0.005
        client = Client()
        here.answers.start(ADA, LONG, "one", client)
        await until(lambda: client.last >= 3)

        assert await back.answers.cancel(ADA, "one")
        await ended(client)
        assert client.ended.cancelled
        assert client.ended.usage.completion_tokens == script.said
        assert await tokens_counted(store) == (1, script.said)
        assert script.closed == 1
        assert not await back.answers.cancel(ADA, "one")

    async def test_a_hanging_listener_does_not_keep_the_node_at_work(
        self, here: Worker, script: Script, store: Store
    ) -> None:
        client = Client()
        client.gate.clear()
        answer = here.answers.start(ADA, ASKED, "one", client)
        await until(lambda: client.calls == 1)
        answer.cancel()
        await until(lambda: script.closed == 1)
        assert client.outcome is None
        client.gate.set()
        await ended(client)

        assert client.ended.cancelled
        assert client.text == "ab"
        assert await tokens_counted(store) == (1, 2)

    async def test_before_the_first_text_nothing_is_counted(self, here: Worker, script: Script, store: Store) -> None:
        script.gate.clear()
        client = Client()
        answer = here.answers.start(ADA, ASKED, "one", client)
        await asyncio.sleep(0.05)
        answer.cancel()
        await ended(client)

        assert client.ended.cancelled
        assert client.ended.usage.total_tokens == 0
        assert await tokens_counted(store) == (0, 0)

    async def test_it_may_be_stopped_before_it_has_begun(self, here: Worker, script: Script) -> None:
        client, second = Client(), Client()
        here.answers.start(ADA, ASKED, None, client).cancel()
        here.answers.start(ADA, ASKED, None, second).detach()
        await ended(client)
        await until(lambda: len(here.book) == 0 and here.book.used == 0)

        assert client.ended.cancelled
        assert script.said == 0
        assert second.outcome is None

    async def test_the_one_who_came_back_may_stop_it(self, here: Worker, back: Worker, script: Script) -> None:
        script.batches, script.pause_s = [["a"]] * 1000, 0.005
        here.answers.start(ADA, LONG, "one", Client()).detach()
        client = Client()
        answer = await back.answers.resume(ADA, "one", 0, client)
        await until(lambda: client.last >= 2)
        answer.cancel()
        await answer.wait()

        assert client.ended.cancelled
        assert client.last == script.said

    async def test_the_end_of_the_worker_ends_and_counts_all(self, redis_url: str, store: Store, here: Worker) -> None:
        script = Script([["a"]] * 1000, pause_s=0.005)
        async with open_worker(redis_url, store, script) as worker:
            client = Client()
            worker.answers.start(ADA, LONG, "one", client).detach()
            other = await here.answers.resume(ADA, "one", 0, client)
            await until(lambda: client.last >= 2)
            other.detach()

        assert await tokens_counted(store) == (1, script.said)
        assert len(worker.book) == len(worker.relay) == worker.book.used == 0

    async def test_who_hears_another_workers_answer_is_told_when_this_one_ends(
        self, here: Worker, there: Worker, script: Script
    ) -> None:
        script.batches, script.pause_s = [["a"]] * 1000, 0.005
        here.answers.start(ADA, LONG, "one", Client()).detach()
        client, second = Client(), Client()
        await there.answers.resume(ADA, "one", 0, client)
        await until(lambda: client.last >= 2)
        there.answers.interrupt(ShuttingDown())
        await ended(client)

        assert isinstance(client.outcome, ShuttingDown)
        (await here.answers.resume(ADA, "one", client.last, second)).cancel()
        await ended(second)


@pytest.mark.asyncio
class TestStrangers:
    async def test_another_wallet_neither_reads_nor_stops(self, here: Worker, back: Worker, script: Script) -> None:
        script.gate.clear()
        client = Client()
        here.answers.start(ADA, ASKED, "one", client)

        with pytest.raises(UnknownAnswer):
            await back.answers.resume(BOB, "one", 0, Client())
        assert not await back.answers.cancel(BOB, "one")
        script.gate.set()
        await ended(client)
        assert client.text == "abcdefg"

    async def test_a_place_that_never_was_is_not_found(self, here: Worker, back: Worker) -> None:
        await here.answers.start(ADA, ASKED, "one", Client()).wait()

        for after in (9, 1000, -1):
            with pytest.raises(UnknownAnswer):
                await back.answers.resume(ADA, "one", after, Client())

    async def test_messages_that_are_none_are_dropped(
        self, here: Worker, there: Worker, caplog: pytest.LogCaptureFixture
    ) -> None:
        topics = [redis_keys.to_all("answers"), redis_keys.to_worker(here.worker_id, "answers")]
        for topic in topics:
            for junk in (b"", b"\xc1", b"\x81", encode(Resume(b"x", "w", "s", "n", 0))[:-1], b"\x91\xa5Found"):
                there.bus.post(topic, junk)
            await there.bus.publish(topic, encode(Found(b"unknown", "x")))
        await here.answers.start(ADA, ASKED, "one", Client()).wait()
        client = Client()
        await (await there.answers.resume(ADA, "one", 0, client)).wait()

        assert client.text == "abcdefg"
        assert len([record for record in caplog.records if "dropped" in record.message]) == 15
        assert not [record for record in caplog.records if record.levelname == "ERROR"]

    async def test_only_the_asker_moves_his_conversation_on(self, here: Worker, there: Worker, script: Script) -> None:
        here.answers.start(ADA, ASKED, "one", Client()).detach()
        client = Client()
        client.gate.clear()
        await there.answers.resume(ADA, "one", 0, client)
        await until(lambda: client.calls == 1)
        (link,) = here.relay._lent
        there.bus.post(redis_keys.to_worker(here.worker_id, "answers"), encode(Place(link, "a stranger", 99, 99)))
        await asyncio.sleep(0.05)

        assert client.outcome is None
        client.gate.set()
        await ended(client)
        assert client.text == "abcdefg"


@pytest.mark.asyncio
class TestBounds:
    async def test_the_oldest_finished_answers_give_way(self, redis_url: str, store: Store) -> None:
        script = Script([["x" * 1000]] * 10)
        async with open_worker(redis_url, store, script, most=100_000) as worker:
            for number in range(30):
                await worker.answers.start(ADA, LONG, str(number), Client()).wait()
                assert worker.book.used <= 100_000

            assert 5 <= len(worker.book) < 10
            client = Client()
            await (await worker.answers.resume(ADA, "29", 0, client)).wait()
            assert len(client.text) == 10_000
            with pytest.raises(UnknownAnswer):
                await worker.answers.resume(ADA, "0", 0, Client())

    async def test_one_large_answer_takes_the_place_of_many_small_ones(self, redis_url: str, store: Store) -> None:
        script = Script([["x"]])
        async with open_worker(redis_url, store, script, most=200_000) as worker:
            for number in range(50):
                await worker.answers.start(ADA, LONG, str(number), Client()).wait()
            script.batches = [["x" * 150_000]]
            await worker.answers.start(ADA, LONG, "large", Client()).wait()

            assert 150_000 < worker.book.used <= 200_000
            assert 10 < len(worker.book) < 40

    async def test_a_very_long_answer_is_heard_to_its_end_but_not_kept_from_its_beginning(
        self, redis_url: str, store: Store
    ) -> None:
        script = Script([["x" * 100_000, "y"]] * 30)
        async with open_worker(redis_url, store, script) as worker:
            client, late = Client(), Client()
            await worker.answers.start(ADA, LONG, "one", client).wait()

            assert len(client.text) == 30 * 100_001
            assert worker.book.used <= 1024 * 1024 + ENTRY
            with pytest.raises(UnknownAnswer):
                await worker.answers.resume(ADA, "one", 0, Client())
            await (await worker.answers.resume(ADA, "one", 58, late)).wait()
            assert late.text == "x" * 100_000 + "y"

    async def test_running_answers_keep_within_bounds_too(self, redis_url: str, store: Store) -> None:
        script = Script([["x" * 1000]] * 100)
        async with open_worker(redis_url, store, script, most=50_000) as worker:
            clients = [Client(pause_s=0.001) for _ in range(5)]
            for number, client in enumerate(clients):
                worker.answers.start(ADA, LONG, str(number), client)
            await asyncio.gather(*map(ended, clients))

            assert worker.book.used <= 50_000
            assert {len(client.text) for client in clients} == {100_000}


@pytest.mark.asyncio
class TestOneOfTwoWorkersThatDies:
    async def test_its_client_is_told_that_the_answer_is_lost(self, redis_url: str, store: Store) -> None:
        script = Script(LETTERS)
        async with (
            open_worker(redis_url, store, script) as dying,
            open_worker(redis_url, store, script, beat_s=0.1) as other,
        ):
            client = await self.hear_half(dying, other, script)
            await fall_silent(dying)
            await ended(client)

            assert isinstance(client.outcome, AnswerLost)
            assert client.text == "ab"
            assert len(other.relay) == 0

    async def test_it_is_as_good_as_a_lost_link(self, redis_url: str, store: Store) -> None:
        script = Script(LETTERS)
        async with (
            open_worker(redis_url, store, script, beat_s=0.1) as owner,
            open_worker(redis_url, store, script) as dying,
        ):
            await self.hear_half(owner, dying, script)
            await fall_silent(dying)
            await until(lambda: len(owner.relay) == 0)
            script.gate.set()
            late = Client()
            await (await owner.answers.resume(ADA, "one", 2, late)).wait()

            assert late.text == "cdefg"

    async def test_a_client_that_is_slower_than_any_silence_is_waited_for(self, redis_url: str, store: Store) -> None:
        script = Script(LETTERS)
        async with (
            open_worker(redis_url, store, script, beat_s=0.1) as owner,
            open_worker(redis_url, store, script, beat_s=0.1) as other,
        ):
            owner.answers.start(ADA, ASKED, "one", Client()).detach()
            client = Client(pause_s=0.5)
            await (await other.answers.resume(ADA, "one", 0, client)).wait()

            assert client.text == "abcdefg"
            assert client.ended.usage.completion_tokens == 7

    async def hear_half(self, owner: Worker, other: Worker, script: Script) -> Client:
        """A client at the other worker that has heard the beginning."""
        first, client = Client(), Client()
        first.gate.clear()
        answer = owner.answers.start(ADA, ASKED, "one", first)
        await until(lambda: first.calls == 1)
        script.gate.clear()
        answer.detach()
        await other.answers.resume(ADA, "one", 0, client)
        await until(lambda: client.text == "ab")
        return client


@pytest.mark.asyncio
class TestRedisThatGoesAway:
    async def test_the_answer_is_lost_to_other_workers_until_redis_is_back(self, tmp_path: Path) -> None:
        server, script = RedisServer(tmp_path), Script(LETTERS)
        server.start()
        try:
            async with (
                open_store(server.url, timeout_s=10) as store,
                open_worker(server.url, store, script, beat_s=0.1) as owner,
                open_worker(server.url, store, script, beat_s=0.1) as other,
            ):
                client, late = Client(), Client()
                script.pause_s = 0.02
                owner.answers.start(ADA, ASKED, "one", Client()).detach()
                client.gate.clear()
                await other.answers.resume(ADA, "one", 0, client)
                await until(lambda: client.calls == 1)
                server.stop()
                client.gate.set()
                await ended(client)
                assert isinstance(client.outcome, AnswerLost)
                await until(lambda: not other.bus.is_heard)
                with pytest.raises(StoreUnavailable):
                    await other.answers.resume(ADA, "one", client.last, Client())

                server.start()
                await until(lambda: other.bus.is_heard and owner.bus.is_heard)
                await (await other.answers.resume(ADA, "one", client.last, late)).wait()
                assert client.text + late.text == "abcdefg"
        finally:
            server.stop()


async def fall_silent(worker: Worker) -> None:
    """The worker hears nothing and says nothing any more, as if it were killed."""
    await worker.bus.unsubscribe(redis_keys.to_worker(worker.worker_id, "answers"))
    for lending in worker.relay._lent.values():
        lending._link.close()
    for borrowing in worker.relay._borrowed.values():
        assert borrowing._link is not None
        borrowing._link.close()


async def listen_with_drops(workers: list[Worker], caller: Caller, name: str, chance: random.Random) -> str:
    """The text as a client gets it whose link drops at random places and who comes back on random workers."""
    text, last = "", 0
    answer = None
    while True:
        client = Client(pause_s=chance.choice([0, 0, 0.001]))
        if answer is None:
            answer = workers[0].answers.start(caller, LONG, name, client)
        else:
            answer = await chance.choice(workers).answers.resume(caller, name, last, client)
        listening = asyncio.ensure_future(answer.wait())
        await asyncio.wait({listening}, timeout=chance.choice([0, 0.001, 0.005, 0.02, 1]))
        if chance.random() < 0.8:  # else the new link comes while the former one still seems to be there
            answer.detach()
        listening.cancel()
        client.gone = True
        text, last = text + client.text, client.last or last
        if client.outcome is not None and not isinstance(client.outcome, AnswerMoved):
            assert client.ended.usage.completion_tokens == last
            return text


@pytest.mark.asyncio
class TestAnyPlace:
    async def test_the_text_is_whole_and_counted_once_wherever_the_link_drops(
        self, redis_url: str, store: Store
    ) -> None:
        await self.drop_and_resume(redis_url, store, 40)

    @pytest.mark.long
    async def test_the_same_many_times(self, redis_url: str, store: Store) -> None:
        await self.drop_and_resume(redis_url, store, 1000)

    async def drop_and_resume(self, redis_url: str, store: Store, times: int) -> None:
        script = Script()
        async with open_worker(redis_url, store, script) as one, open_worker(redis_url, store, script) as two:
            tokens = 0
            for number in range(times):
                chance = random.Random(number)
                script.pause_s = chance.choice([0, 0.0005, 0.002])
                script.batches = [[f"{batch}.{piece} " for piece in range(chance.randint(1, 5))] for batch in range(60)]
                tokens += sum(map(len, script.batches))

                text = await listen_with_drops([one, two], ADA, str(number), chance)

                assert text == "".join(piece for batch in script.batches for piece in batch)
                assert await tokens_counted(store) == (number + 1, tokens)
            await until(lambda: len(one.relay) == len(two.relay) == 0)
