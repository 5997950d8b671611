"""What the Oracle is told, when, and what it has booked in the end."""

from __future__ import annotations

import logging

import pytest
import redis

from core import redis_keys
from core.metrics.counters import Counters, Report
from core.metrics.node_wallets import WATCH_S, NodeWallets
from core.metrics.reporter import MetricsReporter
from core.oracle.reports import KeyedReports
from core.store import Store
from core.wallet import Signer
from tests.fakes.clock import FakeClock
from tests.fakes.oracle_metrics import MetricsLedger
from tests.metrics.network import SIGNER, Killed, Lead, Wire, oracle_for, reporter, serve

ME = SIGNER.address
NODE, OTHER = "0x" + "c" * 40, "0x" + "d" * 40
MINUTE = 60


def told(oracle: MetricsLedger) -> list[int]:
    """The tokens of every report, in order."""
    return [int(body["tokensProcessed"]) for body in oracle.seen]


@pytest.mark.asyncio
class TestReport:
    async def test_what_was_served_is_booked(self, store: Store, clock: FakeClock) -> None:
        oracle = oracle_for(clock)
        await serve(store, 70, latency_ms=100)
        await serve(store, 30, latency_ms=200)

        await reporter(store, Wire(oracle), clock).report()

        assert oracle.booked(ME) == (100, 2)
        assert oracle.seen[-1]["avgLatencyMs"] == 150
        assert oracle.seen[-1]["wallet"] == ME

    async def test_nothing_is_sent_when_nothing_has_changed(self, store: Store, clock: FakeClock) -> None:
        oracle = oracle_for(clock)
        reports = reporter(store, Wire(oracle), clock)
        await reports.report()
        assert oracle.seen == []

        await serve(store, 5)
        await reports.report()
        sent = len(oracle.seen)
        clock.advance(MINUTE)
        await reports.report()

        assert len(oracle.seen) == sent

    async def test_totals_are_cumulative_under_rising_timestamps(self, store: Store, clock: FakeClock) -> None:
        oracle = oracle_for(clock)
        reports = reporter(store, Wire(oracle), clock)
        for _ in range(3):
            await serve(store, 5)
            await reports.report()

        stamps = [body["timestamp"] for body in oracle.seen]
        assert told(oracle) == [0, 5, 10, 15]
        assert stamps == sorted(set(stamps))
        assert oracle.booked(ME) == (15, 3)

    async def test_an_answer_of_no_tokens_is_a_request_all_the_same(self, store: Store, clock: FakeClock) -> None:
        oracle = oracle_for(clock)
        await serve(store, 0)

        await reporter(store, Wire(oracle), clock).report()

        assert oracle.booked(ME) == (0, 1)

    async def test_a_lost_reply_neither_loses_nor_doubles(self, store: Store, clock: FakeClock) -> None:
        oracle = oracle_for(clock)
        wire = Wire(oracle)
        reports = reporter(store, wire, clock)
        wire.after = lambda: (_ for _ in ()).throw(Killed())
        for _ in range(4):
            await serve(store, 5)
            with pytest.raises(Killed):
                await reports.report()
        wire.after = lambda: None

        await reporter(store, wire, clock).report()

        assert oracle.booked(ME) == (20, 4)

    async def test_a_day_of_an_oracle_that_fails_loses_nothing(self, store: Store, clock: FakeClock) -> None:
        oracle = oracle_for(clock)
        reports = reporter(store, Wire(oracle), clock)
        oracle.failing = True
        for _ in range(24 * 60):
            await serve(store, 3)
            await reports.report()
            clock.advance(MINUTE)
        assert oracle.booked(ME) == (0, 0)
        oracle.failing = False

        await reports.report()

        assert oracle.booked(ME) == (24 * 60 * 3, 24 * 60)
        assert oracle.untrusted() == 0

    async def test_only_the_first_failure_and_the_recovery_are_logged(
        self, store: Store, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "core.metrics")
        wire = Wire(oracle_for(clock))
        reports = reporter(store, wire, clock)
        await serve(store, 5)
        wire.away = True
        for _ in range(5):
            await reports.report()
        wire.away = False
        await reports.report()

        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.asyncio
class TestLoss:
    async def test_after_a_wiped_redis_a_zero_comes_first_and_the_new_count_is_exact(
        self, store: Store, clock: FakeClock, redis_url: str
    ) -> None:
        oracle = oracle_for(clock)
        reports = reporter(store, Wire(oracle), clock)
        await serve(store, 500)
        await reports.report()
        with redis.Redis.from_url(redis_url) as raw:
            raw.flushall()
        await serve(store, 900)
        clock.advance(MINUTE)

        await reports.report()

        assert told(oracle)[-2:] == [0, 900]
        assert oracle.booked(ME) == (1400, 2)

    async def test_so_it_does_when_only_the_totals_are_lost(
        self, store: Store, clock: FakeClock, redis_url: str
    ) -> None:
        oracle = oracle_for(clock)
        reports = reporter(store, Wire(oracle), clock)
        await serve(store, 500)
        await reports.report()
        with redis.Redis.from_url(redis_url) as raw:
            raw.delete(redis_keys.account(redis_keys.OWN))
        await serve(store, 30)

        await reports.report()

        assert oracle.booked(ME) == (530, 2)

    async def test_another_key_is_told_only_what_the_former_was_not(self, store: Store, clock: FakeClock) -> None:
        oracle = oracle_for(clock)
        wire = Wire(oracle)
        await serve(store, 500)
        await reporter(store, wire, clock).report()
        oracle.registered.add(NODE)
        await serve(store, 30)

        begun = [await Counters(store, Lead()).begin(redis_keys.OWN, NODE, clock.now()) for _ in range(2)]

        assert [report and report.tokens for report in begun] == [0, 0]
        assert begun[1] is not None
        await Counters(store, Lead()).done(redis_keys.OWN, begun[1])
        count = await Counters(store, Lead()).begin(redis_keys.OWN, NODE, clock.now())
        assert count is not None
        assert (count.tokens, count.requests) == (30, 1)


@pytest.mark.asyncio
class TestLargestFigure:
    async def test_a_total_over_it_is_told_in_parts(self, store: Store, clock: FakeClock) -> None:
        oracle = oracle_for(clock)
        for _ in range(7):
            await serve(store, 50)

        await reporter(store, Wire(oracle), clock, most=100).report()

        assert told(oracle) == [0, 100, 0, 100, 0, 100, 0, 50]
        assert oracle.booked(ME) == (350, 7)

    async def test_so_it_is_when_replies_are_lost(self, store: Store, clock: FakeClock) -> None:
        oracle = oracle_for(clock)
        wire = Wire(oracle)
        for turn in range(60):
            await serve(store, 50)
            lost = Killed() if turn % 2 else None
            wire.after = lambda lost=lost: (_ for _ in ()).throw(lost) if lost else None  # type: ignore[misc] # a default
            clock.advance(3)
            try:
                await reporter(store, wire, clock, most=100).report()
            except Killed:
                continue
        wire.after = lambda: None
        clock.advance(MINUTE)
        for _ in range(6):
            await reporter(store, wire, clock, most=100).report()

        assert oracle.booked(ME) == (3000, 60)


@pytest.mark.asyncio
class TestClocks:
    async def test_a_clock_that_was_ahead_and_was_put_right_silences_nobody(
        self, store: Store, clock: FakeClock
    ) -> None:
        oracle = oracle_for(clock)
        await serve(store, 5)
        ahead = FakeClock(clock.now() + 86_400)
        await reporter(store, Wire(oracle), ahead).report()
        assert oracle.untrusted() == 1

        await reporter(store, Wire(oracle), clock).report()

        assert oracle.booked(ME) == (5, 1)

    async def test_a_clock_that_is_a_little_behind_waits_for_no_one(self, store: Store, clock: FakeClock) -> None:
        oracle = oracle_for(clock)
        await serve(store, 5)
        await reporter(store, Wire(oracle), clock).report()
        await serve(store, 5)

        await reporter(store, Wire(oracle), FakeClock(clock.now() - 20)).report()

        assert oracle.booked(ME) == (10, 2)

    async def test_the_log_names_both_causes_of_a_401(
        self, store: Store, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        await serve(store, 5)
        await reporter(store, Wire(oracle_for(FakeClock(clock.now() + 3600))), clock).report()

        assert "clock" in caplog.text
        assert "signature" in caplog.text


@pytest.mark.asyncio
class TestLeaders:
    async def test_one_whose_lead_is_over_tells_nothing(self, store: Store, clock: FakeClock, redis_url: str) -> None:
        oracle = oracle_for(clock)
        await serve(store, 5)
        with redis.Redis.from_url(redis_url) as raw:
            raw.set(redis_keys.FENCE, 2)

        await reporter(store, Wire(oracle), clock, fence=1).report()
        assert oracle.seen == []

        await reporter(store, Wire(oracle), clock, fence=2).report()
        assert oracle.booked(ME) == (5, 1)

    async def test_one_that_was_stopped_in_the_middle_confirms_nothing(
        self, store: Store, clock: FakeClock, redis_url: str
    ) -> None:
        old = Counters(store, Lead(1))
        await serve(store, 5)
        late = await old.begin(redis_keys.OWN, ME, clock.now())
        with redis.Redis.from_url(redis_url) as raw:
            raw.set(redis_keys.FENCE, 2)
        oracle = oracle_for(clock)
        await reporter(store, Wire(oracle), clock, fence=2).report()
        assert late is not None

        await old.done(redis_keys.OWN, late)
        await serve(store, 5)
        await reporter(store, Wire(oracle), clock, fence=2).report()

        assert oracle.booked(ME) == (10, 2)


@pytest.mark.asyncio
class TestRegistration:
    async def test_the_wallet_gets_itself_registered(self, store: Store, clock: FakeClock) -> None:
        oracle = MetricsLedger("k", set(), clock.now)
        reports = reporter(store, Wire(oracle), clock, endpoint="https://gateway.example.com")
        await serve(store, 5)

        await reports.report()
        clock.advance(MINUTE)
        await reports.report()

        assert [body["endpoint"] for body in oracle.registrations] == ["https://gateway.example.com"]
        assert oracle.booked(ME) == (5, 1)

    async def test_it_asks_once_in_five_minutes(self, store: Store, clock: FakeClock) -> None:
        oracle = MetricsLedger("k", set(), clock.now)
        reports = reporter(store, Wire(oracle), clock, endpoint="https://gateway.example.com")
        await serve(store, 5)
        for _ in range(10):
            await reports.report()
            oracle.registered.clear()
            clock.advance(MINUTE)

        assert len(oracle.registrations) == 2

    async def test_without_a_public_url_the_log_says_once_what_to_do(
        self, store: Store, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        reports = reporter(store, Wire(MetricsLedger("k", set(), clock.now)), clock)
        await serve(store, 5)
        for _ in range(5):
            await reports.report()

        assert caplog.text.count("GATEWAY_URL") == 1


def for_nodes(store: Store, wire: Wire, clock: FakeClock) -> MetricsReporter:
    """A reporter of the nodes' wallets."""
    counters = Counters(store, Lead())
    wallets = NodeWallets(counters, wire.client, clock)
    return MetricsReporter(counters, wallets, KeyedReports(wire.client, "k", clock), clock)


@pytest.mark.asyncio
class TestNodeWallets:
    async def test_each_wallet_is_told_what_its_nodes_served_and_the_own_one_nothing(
        self, store: Store, clock: FakeClock
    ) -> None:
        oracle = MetricsLedger("k", {NODE, OTHER, ME}, clock.now)
        reports = for_nodes(store, Wire(oracle), clock)
        for account, tokens in ((NODE, 5), (OTHER, 7), (redis_keys.NOBODY, 11), (redis_keys.OWN, 13)):
            await serve(store, tokens, account)
        await reports.report()
        clock.advance(WATCH_S)

        await reports.report()

        assert [oracle.booked(wallet)[0] for wallet in (NODE, OTHER, ME)] == [5, 7, 0]

    async def test_a_node_that_reports_itself_is_left_alone_for_good(
        self, store: Store, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        signer = Signer("0x" + "cd" * 32)
        oracle = MetricsLedger("k", {signer.address}, clock.now)
        wire = Wire(oracle)
        reports = for_nodes(store, wire, clock)
        await serve(store, 5, signer.address)
        await reports.report()
        own = Counters(store, Lead())
        await KeyedReports(wire.client, "k", clock).send(_report(signer.address, int(clock.now()), 1000))
        for _ in range(10):
            clock.advance(MINUTE)
            await reports.report()

        assert oracle.booked(signer.address)[0] == 1000
        assert await own.timestamps(signer.address) == (0, 0)
        assert caplog.text.count("reports for itself") == 1

    async def test_one_that_begins_to_report_itself_is_left_alone_from_then_on(
        self, store: Store, clock: FakeClock
    ) -> None:
        oracle = MetricsLedger("k", {NODE}, clock.now)
        wire = Wire(oracle)
        reports = for_nodes(store, wire, clock)
        await serve(store, 5, NODE)
        await reports.report()
        clock.advance(WATCH_S)
        await reports.report()
        assert oracle.booked(NODE)[0] == 5
        clock.advance(MINUTE)
        await KeyedReports(wire.client, "k", clock).send(_report(NODE, int(clock.now()), 1000))
        sent = len(oracle.seen)
        for _ in range(3):
            await serve(store, 5, NODE)
            clock.advance(MINUTE)
            await for_nodes(store, wire, clock).report()

        assert len(oracle.seen) == sent

    async def test_a_lost_reply_of_ours_is_not_taken_for_a_strangers(self, store: Store, clock: FakeClock) -> None:
        oracle = MetricsLedger("k", {NODE}, clock.now)
        wire = Wire(oracle)
        reports = for_nodes(store, wire, clock)
        await serve(store, 5, NODE)
        await reports.report()
        clock.advance(WATCH_S)
        wire.after = lambda: (_ for _ in ()).throw(Killed())
        with pytest.raises(Killed):
            await reports.report()
        wire.after = lambda: None
        clock.advance(WATCH_S)

        await reports.report()

        assert oracle.booked(NODE)[0] == 5


def _report(wallet: str, timestamp: int, tokens: int) -> Report:
    """A report that a node makes itself."""
    return Report(wallet, timestamp, tokens, 1, 1.0)
