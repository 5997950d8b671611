"""Idempotency-Key: one of many is served, all others are given his answer, and nothing counts twice."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest
from msgspec.structs import replace as changed
from redis import Redis

from core import redis_keys
from core.access.admission import Limits
from core.auth.caller import Caller
from core.billing.commits import Commits
from core.billing.ledger import KeptAnswer, Ledger
from core.bus import Bus, open_bus
from core.clock import SystemClock
from core.errors import (
    AnswerFailed,
    GatewayError,
    IdempotencyConflict,
    IdempotencyMismatch,
    NodesFailed,
    RateLimited,
    StoreUnavailable,
    TooManyTokens,
    Unauthenticated,
    Unavailable,
    UnknownModel,
)
from core.inference.completion import Completion, Usage
from core.inference.idempotency import IdempotencyKey, IdempotencyKeys, fingerprint
from core.inference.recordings import Recording
from core.inference.repeatable import RepeatableInference
from core.inference.requests import InferenceRequest, Message
from core.inference.service import InferenceService
from core.nodes.node import Node
from core.nodes.router import NodeRouter
from core.nodes.work import NodeAnswer, Offer
from core.store import Store, open_store
from tests.access.gates import ADA, ASKED, BOB, gate, used
from tests.fakes.redis_server import RedisServer
from tests.streams import following, lists

DOOR = "/v1/completions"
NODE = Node("http://node")
LIMITS = Limits(free_requests=100, window_s=3600, free_max_tokens=2048, pro_max_tokens=4096)
PIECES = [["Hel", "lo"], [" wör\nld"]]
SPOKEN = ["Hel", "lo", " wör\nld"]


class ScriptedNodes:
    """A router whose nodes say PIECES; `gate` holds each piece up, `failure` comes behind the pieces or at once."""

    def __init__(self) -> None:
        self.pieces = PIECES
        self.failure: GatewayError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

    async def complete(self, _: object) -> NodeAnswer:
        self.asked += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return NodeAnswer(NODE, "".join(piece for batch in self.pieces for piece in batch), "length", 3, 2, 1)

    def stream(self, _: object) -> Speech:
        self.asked += 1
        return Speech(self)


class Speech:
    """One streamed answer."""

    def __init__(self, nodes: ScriptedNodes) -> None:
        self._nodes = nodes
        self._left = list(nodes.pieces)
        self.answer = NodeAnswer(NODE, "", "length", None, None, 0)

    async def flow(self, offer: Offer) -> list[str]:
        await self._nodes.gate.wait()
        while self._left:
            if not offer(batch := self._left.pop(0)):
                return batch
        if self._nodes.failure is not None:
            raise self._nodes.failure
        return []

    async def aclose(self) -> None:
        pass


def worker(
    store: Store,
    nodes: ScriptedNodes,
    *,
    lease_s: int = 60,
    limits: Limits = LIMITS,
    commits: Commits | None = None,
    bus: Bus | None = None,
) -> RepeatableInference:
    """The inference of one worker; several of them share the store."""
    router = cast("NodeRouter", nodes)
    commits = commits or Commits(store)
    ledger = Ledger(store, commits=commits)
    service = InferenceService(gate(store, limits=limits), router, ledger, SystemClock(), patience_s=15)
    keys = IdempotencyKeys(store, commits, lease_s=lease_s)
    if bus is not None:
        keys.follow(bus)
    return RepeatableInference(service, keys)


def key_for(request: InferenceRequest = ASKED, value: str = "key-1") -> IdempotencyKey:
    """The key of a request."""
    return IdempotencyKey(value, fingerprint(DOOR, request))


KEY = key_for()
OTHER = changed(ASKED, prompt="something else")


def told(completion: Completion) -> tuple[object, ...]:
    """All that a client is told of an answer."""
    grant = completion.grant
    return grant.request_id, grant.model.id, completion.created, completion.finish_reason, completion.usage


async def read(inference: RepeatableInference, caller: Caller = ADA) -> tuple[list[str], Completion]:
    """A whole stream under KEY."""
    async with inference.stream(caller, ASKED, KEY) as stream:
        pieces = [piece async for batch in lists(stream) for piece in batch]
        return pieces, stream.completion


async def read_broken(inference: RepeatableInference) -> tuple[list[str], GatewayError]:
    """A stream under KEY that ends with an error."""
    heard: list[str] = []
    async with inference.stream(ADA, ASKED, KEY) as stream:
        with pytest.raises(GatewayError) as broken:  # noqa: PT012 - what came before matters
            async for batch in lists(stream):
                heard += batch
    return heard, broken.value


async def answers(store: Store) -> int:
    """How many answers are counted."""
    return (await Ledger(store).totals())["answers"]


async def is_claimed(store: Store) -> bool:
    """Whether ADA's request under KEY counts as one that is under way. A Redis that comes back is waited for."""
    with suppress(StoreUnavailable):
        return await store.exists(redis_keys.claim(ADA.subject, KEY.value))
    return True


async def fail_while_it_is_away(keys: IdempotencyKeys, redis: RedisServer) -> None:
    """A request under KEY whose nodes fail, and meanwhile Redis goes away."""
    async with keys.opened(ADA, KEY):
        redis.stop()
        raise NodesFailed


async def opened(keys: IdempotencyKeys) -> None:
    """A request under KEY that fails."""
    with suppress(NodesFailed):
        async with keys.opened(ADA, KEY):
            raise NodesFailed


async def is_open(keys: IdempotencyKeys) -> bool:
    """Whether KEY can be had."""
    with suppress(Unavailable, IdempotencyConflict):
        await opened(keys)
        return True
    return False


async def knows_the_claim(store: Store) -> bool:
    """Whether a Redis that is there knows it."""
    with suppress(StoreUnavailable):
        return await store.exists(redis_keys.claim(ADA.subject, KEY.value))
    return False


async def answered_while_it_is_away(
    inference: RepeatableInference, nodes: ScriptedNodes, redis: RedisServer
) -> Completion:
    """An answer under KEY whose count waits."""
    nodes.gate.clear()
    serving = asyncio.create_task(inference.complete(ADA, ASKED, KEY))
    while not nodes.asked:
        await asyncio.sleep(0.001)
    redis.stop()
    nodes.gate.set()
    return await serving


async def asked_until_answered(inference: RepeatableInference) -> Completion:
    """What a client gets who asks under KEY as often as he is told to come again."""
    async with asyncio.timeout(20):
        while True:
            with suppress(Unavailable, IdempotencyConflict):
                return await inference.complete(ADA, ASKED, KEY)
            await asyncio.sleep(0.02)


@pytest.fixture
def nodes() -> ScriptedNodes:
    """Nodes that answer."""
    return ScriptedNodes()


@pytest.mark.asyncio
class TestAWholeAnswer:
    async def test_is_given_again_as_it_was_by_any_worker(self, store: Store, nodes: ScriptedNodes) -> None:
        first = await worker(store, nodes).complete(ADA, ASKED, KEY)
        again = await worker(store, nodes).complete(ADA, ASKED, KEY)

        assert (first.is_replay, again.is_replay) == (False, True)
        assert told(again) == told(first)
        assert again.text == first.text == "".join(SPOKEN)
        assert again.finish_reason == "length"

    async def test_counts_once(self, store: Store, nodes: ScriptedNodes) -> None:
        for _ in range(3):
            await worker(store, nodes).complete(ADA, ASKED, KEY)

        assert nodes.asked == 1
        assert await answers(store) == 1
        assert await used(store) == 1

    async def test_is_not_given_for_another_request(self, store: Store, nodes: ScriptedNodes) -> None:
        await worker(store, nodes).complete(ADA, ASKED, KEY)

        with pytest.raises(IdempotencyMismatch):
            await worker(store, nodes).complete(ADA, OTHER, key_for(OTHER))
        assert nodes.asked == 1

    async def test_is_not_given_to_another_caller(self, store: Store, nodes: ScriptedNodes) -> None:
        adas = await worker(store, nodes).complete(ADA, ASKED, KEY)
        bobs = await worker(store, nodes).complete(BOB, ASKED, KEY)

        assert not bobs.is_replay
        assert bobs.grant.request_id != adas.grant.request_id

    async def test_is_not_given_to_one_who_has_signed_out(self, store: Store, nodes: ScriptedNodes) -> None:
        await worker(store, nodes).complete(ADA, ASKED, KEY)
        await store.set(redis_keys.revoked("jti-ada"), "1", 60)

        with pytest.raises(Unauthenticated):
            await worker(store, nodes).complete(ADA, ASKED, KEY)

    async def test_without_a_key_is_made_each_time(self, store: Store, nodes: ScriptedNodes) -> None:
        for _ in range(2):
            await worker(store, nodes).complete(ADA, ASKED, None)

        assert nodes.asked == 2

    async def test_takes_one_round_trip_more(self, store: Store, nodes: ScriptedNodes, redis_url: str) -> None:
        with Redis.from_url(redis_url) as redis:
            trips = []
            await worker(store, nodes).complete(BOB, ASKED, KEY)  # Redis knows the scripts now
            for key in (None, KEY, KEY):
                redis.config_resetstat()
                await worker(store, nodes).complete(ADA, ASKED, key)
                trips.append(cast("dict[str, Any]", redis.info("commandstats"))["cmdstat_evalsha"]["calls"])

        assert trips == [2, 3, 1]  # admitted and counted; claimed before; given again

    async def test_may_be_empty(self, store: Store, nodes: ScriptedNodes) -> None:
        nodes.pieces = [[""]]
        first = await worker(store, nodes).complete(ADA, ASKED, KEY)
        again = await worker(store, nodes).complete(ADA, ASKED, KEY)

        assert (again.is_replay, again.text, told(again)) == (True, "", told(first))


@pytest.mark.asyncio
class TestARequestUnderWay:
    async def test_keeps_its_key_from_being_served_twice(self, store: Store, nodes: ScriptedNodes) -> None:
        nodes.gate.clear()
        first = asyncio.create_task(worker(store, nodes).complete(ADA, ASKED, KEY))
        while not nodes.asked:
            await asyncio.sleep(0.001)

        async with asyncio.timeout(10):
            with pytest.raises(IdempotencyConflict) as conflict:
                await worker(store, nodes).complete(ADA, ASKED, KEY)
        with pytest.raises(IdempotencyMismatch):
            await worker(store, nodes).complete(ADA, OTHER, key_for(OTHER))

        assert conflict.value.headers == {"Retry-After": "1"}
        nodes.gate.set()
        made = await first
        assert told(await worker(store, nodes).complete(ADA, ASKED, KEY)) == told(made)

    async def test_is_one_of_fifty_that_come_at_once(self, store: Store, nodes: ScriptedNodes) -> None:
        workers = [worker(store, nodes) for _ in range(2)]
        outcomes = await asyncio.gather(
            *(workers[n % 2].complete(ADA, ASKED, KEY) for n in range(50)), return_exceptions=True
        )

        kinds = Counter(o.is_replay if isinstance(o, Completion) else type(o) for o in outcomes)
        assert kinds[False] == 1
        assert kinds.keys() <= {False, True, IdempotencyConflict}
        assert (nodes.asked, await answers(store), await used(store)) == (1, 1, 1)

    async def test_whose_worker_was_killed_frees_its_key_in_time(self, store: Store, nodes: ScriptedNodes) -> None:
        keys = [redis_keys.revoked(""), redis_keys.kept_answer(ADA.subject, KEY.value)]
        keys.append(redis_keys.claim(ADA.subject, KEY.value))
        await store.run("idempotency_claim", keys, ("a killed one", KEY.fingerprint, 200, ""))

        with pytest.raises(IdempotencyConflict):
            await worker(store, nodes).complete(ADA, ASKED, KEY)
        await asyncio.sleep(0.3)
        assert not (await worker(store, nodes).complete(ADA, ASKED, KEY)).is_replay

    async def test_that_is_late_leaves_the_answer_that_was_kept_first(self, store: Store) -> None:
        ledger, key = Ledger(store), redis_keys.kept_answer(ADA.subject, "key")
        for value in ("first", "late"):
            grant = await gate(store).admit(ADA, ASKED)
            await ledger.commit(grant, Usage(1, 1, 2), NODE, 1, KeptAnswer(key, value, 60))

        assert await store.get(key) == "first"


@pytest.mark.asyncio
class TestAKeyIsFreeAgain:
    @pytest.mark.parametrize(
        ("refused", "error"),
        [
            (changed(ASKED, model="nobody's"), UnknownModel),
            (changed(ASKED, max_tokens=4096), TooManyTokens),
        ],
    )
    async def test_when_its_request_was_refused(
        self, store: Store, nodes: ScriptedNodes, refused: InferenceRequest, error: type[GatewayError]
    ) -> None:
        with pytest.raises(error):
            await worker(store, nodes).complete(ADA, refused, key_for(refused))

        assert not (await worker(store, nodes).complete(ADA, ASKED, KEY)).is_replay

    async def test_when_the_quota_was_used_up(self, store: Store, nodes: ScriptedNodes) -> None:
        one = replace(LIMITS, free_requests=1)
        await worker(store, nodes, limits=one).complete(ADA, ASKED, None)

        with pytest.raises(RateLimited):
            await worker(store, nodes, limits=one).complete(ADA, ASKED, KEY)
        assert not (await worker(store, nodes).complete(ADA, ASKED, KEY)).is_replay

    async def test_when_all_nodes_failed(self, store: Store, nodes: ScriptedNodes) -> None:
        nodes.failure, nodes.pieces = NodesFailed(), []
        for _ in range(2):
            with pytest.raises(NodesFailed):
                await worker(store, nodes).complete(ADA, ASKED, KEY)
            with pytest.raises(NodesFailed):
                await read(worker(store, nodes))

        assert nodes.asked == 4

    async def test_when_its_caller_left_before_a_whole_answer(self, store: Store, nodes: ScriptedNodes) -> None:
        nodes.gate.clear()
        leaving = asyncio.create_task(worker(store, nodes).complete(ADA, ASKED, KEY))
        while not nodes.asked:
            await asyncio.sleep(0.001)
        leaving.cancel()
        with suppress(asyncio.CancelledError):
            await leaving
        nodes.gate.set()

        assert not (await worker(store, nodes).complete(ADA, ASKED, KEY)).is_replay

    async def test_when_its_caller_left_before_the_first_text(self, store: Store, nodes: ScriptedNodes) -> None:
        nodes.gate.clear()
        leaving = asyncio.create_task(read(worker(store, nodes)))
        while not nodes.asked:
            await asyncio.sleep(0.001)
        leaving.cancel()
        with suppress(asyncio.CancelledError):
            await leaving
        nodes.gate.set()

        assert not (await read(worker(store, nodes)))[1].is_replay

    async def test_but_not_by_a_claim_that_has_lost_it(self, store: Store) -> None:
        claimed = redis_keys.claim(ADA.subject, KEY.value)
        await store.set(claimed, f"mine {KEY.fingerprint}", 60)

        assert await store.run("idempotency_release", [claimed], ("another's", KEY.fingerprint)) == 0
        assert await store.run("idempotency_release", [claimed], ("mine", KEY.fingerprint)) == 1
        assert not await store.exists(claimed)


@pytest.mark.asyncio
class TestAStream:
    async def test_is_given_again_piece_by_piece(self, store: Store, nodes: ScriptedNodes) -> None:
        pieces, end = await read(worker(store, nodes))
        again, same_end = await read(worker(store, nodes))

        assert again == pieces == SPOKEN
        assert told(same_end) == told(end)
        assert (end.is_replay, same_end.is_replay) == (False, True)
        assert (nodes.asked, await answers(store), await used(store)) == (1, 1, 1)

    async def test_may_be_empty(self, store: Store, nodes: ScriptedNodes) -> None:
        nodes.pieces = []
        first, again = await read(worker(store, nodes)), await read(worker(store, nodes))

        assert first[0] == again[0] == []
        assert told(again[1]) == told(first[1])
        assert again[1].is_replay

    async def test_that_broke_off_ends_again_with_the_same_error(self, store: Store, nodes: ScriptedNodes) -> None:
        nodes.failure = NodesFailed("The answer was cut off by its node.")
        heard, error = await read_broken(worker(store, nodes))
        again, same_error = await read_broken(worker(store, nodes))

        assert again == heard == SPOKEN
        assert isinstance(same_error, AnswerFailed)
        assert (same_error.status, same_error.code, same_error.text) == (error.status, error.code, error.text)
        assert (nodes.asked, await answers(store)) == (1, 1)

    async def test_whose_client_left_is_given_as_far_as_it_was_paid(self, store: Store, nodes: ScriptedNodes) -> None:
        async with worker(store, nodes).stream(ADA, ASKED, KEY) as stream:
            assert await following(stream) == PIECES[0]
        again, error = await read_broken(worker(store, nodes))

        assert again == PIECES[0]
        assert (error.status, error.code) == (503, "client_left")
        assert (await Ledger(store).totals())["completion_tokens"] == len(PIECES[0])


@pytest.mark.asyncio
class TestWhatIsNoAnswer:
    @pytest.mark.parametrize(
        "junk", [b"", b"null", b"[]", b"{}", b'{"fingerprint":"x"', b'"text"', b"\x00\xff", b"9" * 5000]
    )
    async def test_in_its_place_is_as_good_as_none(
        self, store: Store, nodes: ScriptedNodes, redis_url: str, junk: bytes
    ) -> None:
        with Redis.from_url(redis_url) as redis:
            redis.set(redis_keys.kept_answer(ADA.subject, KEY.value), junk)

        first = await worker(store, nodes).complete(ADA, ASKED, KEY)
        again = await worker(store, nodes).complete(ADA, ASKED, KEY)

        assert (first.is_replay, again.is_replay) == (False, True)
        assert told(again) == told(first)

    async def test_of_another_type_is_told_from_one(self, store: Store, nodes: ScriptedNodes) -> None:
        await worker(store, nodes).complete(ADA, ASKED, KEY)
        kept = await store.get(redis_keys.kept_answer(ADA.subject, KEY.value))
        assert kept is not None

        assert Recording.read(kept) is not None
        for there, wrong in (
            ('"length"', '"for ever"'),
            ('"created":', '"created":"x"'),
            ('"pieces":[', '"pieces":[1'),
        ):
            assert there in kept
            assert Recording.read(kept.replace(there, wrong)) is None


@pytest.mark.asyncio
class TestARedisThatGoesAway:
    async def test_lets_nobody_in(self, own_redis: RedisServer, nodes: ScriptedNodes) -> None:
        async with open_store(own_redis.url, timeout_s=5) as store:
            own_redis.stop()

            with pytest.raises(StoreUnavailable):
                await worker(store, nodes).complete(ADA, ASKED, KEY)
        assert nodes.asked == 0

    async def test_frees_a_key_that_it_claimed_too_late(self, own_redis: RedisServer, nodes: ScriptedNodes) -> None:
        async with open_store(own_redis.url, timeout_s=0.2) as store:
            keys = IdempotencyKeys(store, Commits(store), lease_s=60)
            await worker(store, nodes).complete(BOB, ASKED, KEY)  # Redis knows the scripts now
            assert own_redis.process is not None
            own_redis.process.send_signal(signal.SIGSTOP)
            with pytest.raises(StoreUnavailable):
                async with keys.opened(ADA, KEY):
                    pytest.fail("nobody is let in")
            own_redis.process.send_signal(signal.SIGCONT)

            async with asyncio.timeout(10):
                while await is_claimed(store):
                    await asyncio.sleep(0.02)
            await keys.aclose()

    async def test_frees_the_key_of_a_request_that_failed_meanwhile(
        self, own_redis: RedisServer, nodes: ScriptedNodes
    ) -> None:
        async with open_store(own_redis.url, timeout_s=5) as store:
            keys = IdempotencyKeys(store, Commits(store), lease_s=60)
            with pytest.raises(NodesFailed):
                await fail_while_it_is_away(keys, own_redis)
            own_redis.start()
            assert await is_claimed(store)

            async with asyncio.timeout(10):
                while await is_claimed(store):
                    await asyncio.sleep(0.02)
            await keys.aclose()

    async def test_that_stays_away_keeps_no_process_from_ending(self, own_redis: RedisServer) -> None:
        async with open_store(own_redis.url, timeout_s=5) as store:
            keys = IdempotencyKeys(store, Commits(store), lease_s=60)
            with pytest.raises(NodesFailed):
                await fail_while_it_is_away(keys, own_redis)

            await keys.aclose()

    async def test_leaves_no_key_claimed_by_one_who_did_not_wait(
        self, own_redis: RedisServer, nodes: ScriptedNodes
    ) -> None:
        async with open_store(own_redis.url, timeout_s=10) as store:
            await worker(store, nodes).complete(BOB, ASKED, KEY)  # Redis knows the scripts now
            assert own_redis.process is not None
            own_redis.process.send_signal(signal.SIGSTOP)
            leaving = asyncio.create_task(worker(store, nodes).complete(ADA, ASKED, KEY))
            await asyncio.sleep(0.05)
            leaving.cancel()
            await asyncio.sleep(0.05)
            own_redis.process.send_signal(signal.SIGCONT)
            with pytest.raises(asyncio.CancelledError):
                await leaving

            async with asyncio.timeout(10):
                while await is_claimed(store):
                    await asyncio.sleep(0.01)
            assert nodes.asked == 1

    async def test_while_it_answers_keeps_the_answer_once_it_is_back(
        self, own_redis: RedisServer, nodes: ScriptedNodes
    ) -> None:
        async with open_store(own_redis.url, timeout_s=5) as store:
            nodes.gate.clear()
            serving = asyncio.create_task(worker(store, nodes).complete(ADA, ASKED, KEY))
            while not nodes.asked:
                await asyncio.sleep(0.001)
            own_redis.stop()
            nodes.gate.set()
            first = await serving
            own_redis.start()

            async with asyncio.timeout(10):
                while await store.get(redis_keys.kept_answer(ADA.subject, KEY.value)) is None:
                    await asyncio.sleep(0.02)
            again = await worker(store, nodes).complete(ADA, ASKED, KEY)

        assert again.is_replay
        assert (told(again), again.text) == (told(first), first.text)

    async def test_for_longer_than_the_claim_is_told_of_the_answer_before_the_key_is_new(
        self, own_redis: RedisServer, nodes: ScriptedNodes
    ) -> None:
        async with open_store(own_redis.url, timeout_s=5) as store:
            commits = Commits(store, pause_s=3600)
            one = worker(store, nodes, lease_s=1, commits=commits)
            first = await answered_while_it_is_away(one, nodes, own_redis)
            await asyncio.sleep(1.1)
            own_redis.start()
            with pytest.raises(Unavailable) as refused:
                await one.complete(ADA, ASKED, KEY)
            commits.hurry()
            again = await asked_until_answered(one)

            assert int(refused.value.headers["Retry-After"]) >= 1
            assert again.is_replay
            assert (told(again), again.text) == (told(first), first.text)
            assert (nodes.asked, await answers(store)) == (1, 1)

    async def test_for_longer_than_the_claim_has_no_other_worker_take_the_key_for_new(
        self, own_redis: RedisServer, nodes: ScriptedNodes
    ) -> None:
        async with open_store(own_redis.url, timeout_s=5) as store, open_bus(own_redis.url) as bus:
            other = worker(store, nodes, lease_s=1, bus=bus)
            while not bus.is_heard:
                await asyncio.sleep(0.001)
            commits = Commits(store, pause_s=3600)
            one = worker(store, nodes, lease_s=1, commits=commits)
            first = await answered_while_it_is_away(one, nodes, own_redis)
            await asyncio.sleep(1.1)
            own_redis.start()
            with pytest.raises(Unavailable):
                await other.complete(ADA, ASKED, KEY)
            commits.hurry()
            again = await asked_until_answered(other)

            assert again.is_replay
            assert told(again) == told(first)
            assert (nodes.asked, await answers(store)) == (1, 1)

    async def test_and_has_forgotten_a_claim_is_told_it_again(self, own_redis: RedisServer) -> None:
        async with open_store(own_redis.url, timeout_s=5) as store, open_bus(own_redis.url) as bus:
            keys = IdempotencyKeys(store, Commits(store), lease_s=60)
            keys.follow(bus)
            while not bus.is_heard:
                await asyncio.sleep(0.001)
            async with keys.opened(ADA, KEY):
                own_redis.stop()
                shutil.rmtree(own_redis.folder / "appendonlydir")
                own_redis.start()

                async with asyncio.timeout(10):
                    while not await knows_the_claim(store):
                        await asyncio.sleep(0.01)
            assert not await store.exists(redis_keys.claim(ADA.subject, KEY.value))
            await keys.aclose()

    async def test_holds_new_keys_up_for_a_moment_only(self, store: Store) -> None:
        keys = IdempotencyKeys(store, Commits(store), lease_s=60, hold_s=1)
        for tell in (keys.suspend, keys.resume):
            tell()
            with pytest.raises(Unavailable):
                await opened(keys)
            async with asyncio.timeout(10):
                while await is_claimed(store):
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(20):
            while not await is_open(keys):
                await asyncio.sleep(0.01)


class TestTheFingerprint:
    SAME = InferenceRequest(model="m", messages=(Message("user", "hi"),), max_tokens=1, stop=("x",))

    def test_is_the_same_for_the_same_request(self) -> None:
        assert fingerprint(DOOR, self.SAME) == fingerprint(DOOR, changed(self.SAME))

    @pytest.mark.parametrize(
        "other",
        [
            changed(SAME, model="n"),
            changed(SAME, messages=(Message("user", "ho"),)),
            changed(SAME, messages=(Message("system", "hi"),)),
            changed(SAME, messages=None, prompt="hi"),
            changed(SAME, max_tokens=2),
            changed(SAME, max_tokens=None),
            changed(SAME, temperature=0.5),
            changed(SAME, top_p=0.5),
            changed(SAME, stop=()),
        ],
    )
    def test_is_another_one_for_every_other_request(self, other: InferenceRequest) -> None:
        assert fingerprint(DOOR, other) != fingerprint(DOOR, self.SAME)

    def test_is_another_one_at_another_door(self) -> None:
        assert fingerprint("/api/v1/inference", self.SAME) != fingerprint(DOOR, self.SAME)
