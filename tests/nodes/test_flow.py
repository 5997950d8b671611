"""The way of each token: taken where it comes in, without a change of tasks, and with all that the slow way keeps."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from core.errors import NodesFailed
from core.nodes.attempt import Timeouts
from core.nodes.transport.failures import NodeBroken, NodeSilent
from core.nodes.transport.pool import ConnectionPool
from tests.fakes.node_server import Fault
from tests.nodes.network import Network, work
from tests.nodes.raw_server import STALL, raw_server
from tests.nodes.test_connections import ASKED, CHUNKED, due, pool

__all__ = ["pool"]  # a fixture

WHO: ContextVar[str] = ContextVar("WHO", default="nobody")
KINDS = ["agent", "openai"]


class Taker:
    """Takes everything, or everything but the lists with these numbers."""

    def __init__(self, *refused: int) -> None:
        self.offered: list[str] = []
        self.tasks: set[asyncio.Task[object] | None] = set()
        self._refused = refused
        self._calls = 0

    def __call__(self, pieces: list[str]) -> bool:
        self._calls += 1
        self.offered += pieces
        self.tasks.add(asyncio.current_task())
        return self._calls not in self._refused


@pytest.mark.asyncio
class TestTokens:
    @pytest.mark.parametrize("kind", KINDS)
    async def test_are_taken_in_the_callback_that_received_them(self, network: Network, kind: str) -> None:
        node = await network.node(kind=kind, answers=["a b c d"], delay_s=0.01)
        stream, taker = (await network.router(node)).stream(work()), Taker()

        assert await stream.flow(taker) == []

        assert "".join(taker.offered) == "a b c d"
        assert None in taker.tasks  # no task ran when they came

    @pytest.mark.parametrize("kind", KINDS)
    async def test_that_are_not_taken_come_out_once_and_in_their_place(self, network: Network, kind: str) -> None:
        node = await network.node(kind=kind, answers=["a b c d e f"], delay_s=0.01)
        stream, taker = (await network.router(node)).stream(work()), Taker(1, 3, 4)
        came = []

        while refused := await stream.flow(taker):
            came.append((len(taker.offered), refused))

        assert "".join(taker.offered) == "a b c d e f"
        assert len(came) == 3
        assert all(taker.offered[:end][-len(refused) :] == refused for end, refused in came)

    async def test_all_taken_buy_time_for_the_next(self, network: Network) -> None:
        node = await network.node(kind="agent", answers=["a b c d e f"], delay_s=0.1)
        router = await network.router(node, timeouts=Timeouts(first_token_s=0.3, token_s=0.3, total_s=5))
        taker = Taker()

        assert await router.stream(work()).flow(taker) == []

        assert "".join(taker.offered) == "a b c d e f"

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "fault", [Fault.CUT_LINE, Fault.CUT_UTF8, Fault.ERROR_EVENT, Fault.GARBAGE, Fault.STALL_BETWEEN]
    )
    async def test_of_a_node_that_fails_have_left_before_it_is_told(
        self, network: Network, kind: str, fault: str
    ) -> None:
        node = await network.node(kind=kind, answers=["a b c"], after=2, fault=fault, delay_s=0.02)
        stream, taker = (await network.router(node)).stream(work()), Taker()

        with pytest.raises(NodesFailed):
            await stream.flow(taker)

        assert "".join(taker.offered) == "a b"
        assert await stream.flow(taker) == []


@pytest.mark.asyncio
class TestBytes:
    async def test_a_failure_of_who_takes_them_is_told_to_who_waits(self, pool: ConnectionPool) -> None:
        def fail(_: bytes) -> bool:
            raise NodeBroken("nonsense")

        async with raw_server([CHUNKED, 0.02, b"2\r\nok\r\n", STALL]) as server:
            exchange = await pool.post(server.url, ASKED, due())
            with pytest.raises(NodeBroken, match="nonsense"):
                await exchange.flow(fail, due())
            exchange.abort()

    async def test_are_taken_in_the_context_of_who_waits(self, pool: ConnectionPool) -> None:
        seen = []

        def take(_: bytes) -> bool:
            seen.append(WHO.get())
            return True

        async with raw_server([CHUNKED, 0.02, b"2\r\nok\r\n0\r\n\r\n"]) as server:
            for name in ("ada", "bob"):  # over one connection, which ada's context has opened
                WHO.set(name)
                exchange = await pool.post(server.url, ASKED, due())
                await exchange.flow(take, due())
                exchange.release()
            await pool.aclose()

        assert seen == ["ada", "bob"]

    async def test_silence_ends_the_wait_unless_it_is_extended(self, pool: ConnectionPool) -> None:
        async with raw_server([CHUNKED, b"2\r\nok\r\n", 0.3, b"2\r\nok\r\n", STALL]) as server:
            exchange, seen = await pool.post(server.url, ASKED, due()), list[bytes]()

            def take(data: bytes) -> bool:
                seen.append(data)
                exchange.extend(due(0.5))
                return True

            began = due(0)
            with pytest.raises(NodeSilent):
                await exchange.flow(take, due(0.2))

        assert seen == [b"ok", b"ok"]
        assert due(0) - began >= 0.7

    async def test_what_nobody_wants_just_now_waits(self, pool: ConnectionPool) -> None:
        async with raw_server([CHUNKED, b"1\r\na\r\n", 0.05, b"1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"]) as server:
            exchange, seen = await pool.post(server.url, ASKED, due()), list[bytes]()

            def take(data: bytes) -> bool:
                seen.append(data)
                return False

            for _ in range(3):
                await exchange.flow(take, due())
                await asyncio.sleep(0.1)
            exchange.release()
            await pool.aclose()

        assert seen == [b"a", b"bc"]
