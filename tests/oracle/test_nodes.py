"""Discovery: what becomes of the Oracle's lists, good, bad and hostile ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import conf
from core import redis_keys
from core.catalog import Catalog
from core.errors import StoreUnavailable
from core.nodes.address_guard import AddressGuard
from core.nodes.sources import Listing
from core.oracle.client import OracleClient, open_oracle
from core.oracle.kept import MOST
from core.oracle.listings import Sieve
from core.oracle.nodes import OracleNodes
from core.store import Store, open_store
from tests.fakes.oracle_server import (
    CAPACITY,
    NODES,
    TOPOLOGY,
    Fault,
    OracleServer,
    capacity_row,
    node_row,
    topology_row,
)
from tests.fakes.redis_server import RedisServer

CATALOG = Catalog.from_file(Path(conf.__file__).parent / "models.toml")
MODEL, OTHER = "bigscience/bloom-560m", "meta-llama/Llama-3.1-8B"
A, B, C = (f"0x{letter * 40}" for letter in "abc")
URL_A, URL_B, URL_C = (f"http://8.8.4.{number}:31331" for number in (1, 2, 3))


@pytest.fixture(scope="module")
def running() -> Iterator[OracleServer]:
    """An Oracle for all tests of this module."""
    with OracleServer() as server:
        yield server


@pytest.fixture
def oracle(running: OracleServer) -> OracleServer:
    """The Oracle, as if it were new."""
    running.nodes, running.topology, running.capacity, running.answers = [], {}, [], {}
    running.fault, running.faults, running.requests = None, {}, []
    return running


@pytest_asyncio.fixture
async def client(oracle: OracleServer) -> Any:
    """A client with little patience."""
    async with open_oracle(oracle.url, timeout_s=0.5) as opened:
        yield opened


@pytest.fixture
def nodes(client: OracleClient, store: Store) -> OracleNodes:
    """The source over an empty Redis."""
    return discovering(client, store)


def discovering(client: OracleClient, store: Store, **changes: Any) -> OracleNodes:
    return OracleNodes(client, store, Sieve(CATALOG, AddressGuard(), **changes))


async def found(nodes: OracleNodes, polls: int = 1) -> list[Listing]:
    """The list after some polls."""
    for _ in range(polls):
        await nodes.refresh()
    return await nodes.listed()


@pytest.mark.asyncio
class TestMerging:
    async def test_a_node_of_the_list_is_taken_with_its_models(self, oracle: OracleServer, nodes: OracleNodes) -> None:
        oracle.nodes = [node_row(A.upper().replace("X", "x"), f"{URL_A}/", "BigScience/Bloom-560M", "stranger/model")]

        assert await found(nodes) == [Listing(URL_A, A, (MODEL,))]

    async def test_a_node_of_the_topology_alone_is_taken(self, oracle: OracleServer, nodes: OracleNodes) -> None:
        oracle.topology = {MODEL: [topology_row(A, URL_A, MODEL)]}

        assert await found(nodes) == [Listing(URL_A, A, (MODEL,), 12.5)]

    async def test_each_model_of_the_catalogue_is_asked_for(self, oracle: OracleServer, nodes: OracleNodes) -> None:
        await nodes.refresh()

        assert oracle.asked(TOPOLOGY) == len(list(CATALOG))
        assert (oracle.asked(NODES), oracle.asked(CAPACITY)) == (1, 1)

    async def test_a_wallet_counts_once_at_the_endpoint_of_the_topology(
        self, oracle: OracleServer, nodes: OracleNodes
    ) -> None:
        oracle.nodes = [node_row(A, URL_B)]
        oracle.topology = {MODEL: [topology_row(A, URL_A, MODEL)], OTHER: [topology_row(A, URL_C, OTHER)]}

        assert await found(nodes) == [Listing(URL_A, A, (MODEL, OTHER), 12.5)]

    async def test_a_url_counts_once(self, oracle: OracleServer, nodes: OracleNodes) -> None:
        oracle.nodes = [node_row(A, URL_A), node_row(B, f"{URL_A}/?x#y")]

        assert [one.address for one in await found(nodes)] == [A]

    @pytest.mark.parametrize("changes", [{"ready": False}, {"pipelineOrder": 1}, {"httpEndpoint": ""}])
    async def test_what_can_not_take_a_whole_request_is_left_out(
        self, oracle: OracleServer, nodes: OracleNodes, changes: dict[str, Any]
    ) -> None:
        oracle.nodes = [node_row(A, URL_A)]
        oracle.topology = {MODEL: [topology_row(A, URL_A, MODEL, **changes)]}

        assert await found(nodes) == []

    async def test_a_standalone_node_is_taken(self, oracle: OracleServer, nodes: OracleNodes) -> None:
        oracle.nodes = [node_row(A, URL_A, MODEL)]
        oracle.capacity = [capacity_row(A, 7.5)]

        assert await found(nodes) == [Listing(URL_A, A, (MODEL,), 7.5)]

    async def test_wallets_without_an_endpoint_and_the_gateway_itself_are_no_nodes(
        self, oracle: OracleServer, client: OracleClient, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        nodes = discovering(client, store, own_wallets={B}, own_url="https://GATE.example/")
        oracle.nodes = [node_row(A, ""), node_row(B, URL_B), node_row(C, "https://gate.example:443/api")]

        assert await found(nodes) == []
        assert caplog.text == ""

    async def test_numbers_may_be_strings(self, oracle: OracleServer, nodes: OracleNodes) -> None:
        row = topology_row(A, URL_A, MODEL, pipelineOrder="0", benchmarkTokPerSec="3.5")
        oracle.topology, oracle.capacity = {MODEL: [row]}, [capacity_row(A, 1) | {"epoch": "7"}]

        assert await found(nodes) == [Listing(URL_A, A, (MODEL,), 3.5)]

    @pytest.mark.parametrize("benchmark", [-1, 0, None, "nan", "inf", "-inf"])
    async def test_an_odd_benchmark_is_as_good_as_none(
        self, oracle: OracleServer, nodes: OracleNodes, benchmark: Any
    ) -> None:
        oracle.topology = {MODEL: [topology_row(A, URL_A, MODEL, benchmarkTokPerSec=benchmark)]}

        assert await found(nodes) == [Listing(URL_A, A, (MODEL,))]


BAD_ROWS: list[Any] = [
    None,
    7,
    "node",
    [],
    {},
    {"address": A},
    node_row("0xaa", URL_B),
    node_row(A + "\n", URL_B),
    node_row(B, URL_B) | {"address": 7},
    node_row(B, URL_B) | {"endpoint": ["http://x"]},
    node_row(B, URL_B) | {"capabilities": "inference"},
    node_row(B, URL_B) | {"capabilities": [7]},
    node_row(B, URL_B) | {"status": None},
    node_row(B, "ftp://8.8.8.8"),
    node_row(B, "http://127.0.0.1:31331"),
    node_row(B, "http://[::ffff:169.254.169.254]/latest"),
    node_row(B, "http://8.8.8.8:6379"),
    node_row(B, "http://user:secret@8.8.8.8"),
    node_row(B, "http://\ud83d\ude00"),
    node_row(B, f"{URL_B}/{'한' * 480}"),
    node_row(B, f"{URL_B}/\nFORGED"),
]


@pytest.mark.asyncio
class TestHostileLists:
    @pytest.mark.parametrize("row", BAD_ROWS, ids=range(len(BAD_ROWS)))
    async def test_a_bad_row_costs_only_itself(self, oracle: OracleServer, nodes: OracleNodes, row: Any) -> None:
        oracle.nodes = [row, node_row(C, URL_C)]

        assert [one.url for one in await found(nodes)] == [URL_C]

    async def test_it_is_counted_and_logged_once_without_its_words(
        self, oracle: OracleServer, nodes: OracleNodes, caplog: pytest.LogCaptureFixture
    ) -> None:
        oracle.nodes = [7, {"address": "evil"}, node_row(B, "http://user:secret@8.8.8.8"), node_row(C, URL_C)]
        with caplog.at_level(logging.INFO):
            await found(nodes, polls=3)
            oracle.nodes = oracle.nodes[-1:]
            await found(nodes)

        first, last = caplog.messages
        assert "1 of its nodes left out: its URL has credentials" in first
        assert "2 of its nodes left out: its entry is malformed" in first
        assert not {"evil", "secret"} & set(first.split())
        assert last == "the Oracle is well again"

    @pytest.mark.parametrize("path", [NODES, TOPOLOGY, CAPACITY])
    @pytest.mark.parametrize("answer", [None, 7, "x", True, {}, {"nodes": None}, {"nodes": {}}, {"nodes": "x"}])
    async def test_an_answer_of_another_form_changes_nothing(
        self, oracle: OracleServer, nodes: OracleNodes, path: str, answer: Any
    ) -> None:
        oracle.nodes = [node_row(A, URL_A, MODEL)]
        before = await found(nodes)
        oracle.answers = {path: answer}

        assert [one.url for one in await found(nodes, polls=3)] == [one.url for one in before]

    async def test_a_flood_is_cut_and_drives_nobody_out(self, oracle: OracleServer, nodes: OracleNodes) -> None:
        oracle.nodes = [node_row(A, URL_A)]
        await found(nodes)
        oracle.nodes = [node_row(f"0x{n:040x}", f"http://8.8.{n // 250}.{n % 250}:31331") for n in range(3_000)]
        oracle.nodes.append(node_row(A, URL_A))

        listed = await found(nodes)
        assert len(listed) == MOST
        assert listed[0].url == URL_A

    async def test_a_list_that_shrinks_to_nothing_is_not_believed(
        self, oracle: OracleServer, nodes: OracleNodes
    ) -> None:
        oracle.nodes = [node_row(A, URL_A), node_row(B, URL_B)]
        await found(nodes)
        oracle.nodes = []

        assert len(await found(nodes, polls=10)) == 2

    async def test_a_node_that_left_goes_after_two_polls(self, oracle: OracleServer, nodes: OracleNodes) -> None:
        oracle.nodes = [node_row(A, URL_A), node_row(B, URL_B)]
        await found(nodes)
        oracle.nodes = [node_row(A, URL_A)]

        assert len(await found(nodes)) == 2
        assert [one.url for one in await found(nodes)] == [URL_A]


@pytest.mark.asyncio
class TestAnOracleThatIsAway:
    @pytest.mark.parametrize("fault", list(Fault))
    async def test_the_last_good_nodes_stay(self, oracle: OracleServer, nodes: OracleNodes, fault: Fault) -> None:
        oracle.nodes = [node_row(A, URL_A, MODEL)]
        before = await found(nodes)
        oracle.fault, oracle.redirect_to = fault, f"{oracle.url}{NODES}?redirected"

        assert await found(nodes, polls=2) == before
        assert not [where for _, where, _ in oracle.requests if "redirected" in where]

    async def test_hours_of_it_are_two_lines_in_the_log(
        self, oracle: OracleServer, nodes: OracleNodes, caplog: pytest.LogCaptureFixture
    ) -> None:
        oracle.nodes = [node_row(A, URL_A)]
        before = await found(nodes)
        oracle.fault = Fault.ERROR
        with caplog.at_level(logging.INFO):
            assert await found(nodes, polls=100) == before
            oracle.fault = None
            await found(nodes)

        assert len(caplog.messages) == 2
        assert "it answered 500" in caplog.messages[0]

    async def test_one_question_without_an_answer_takes_no_node_away(
        self, oracle: OracleServer, nodes: OracleNodes
    ) -> None:
        oracle.nodes, oracle.topology = [node_row(A, URL_A)], {MODEL: [topology_row(B, URL_B, MODEL)]}
        await found(nodes)
        oracle.faults = {TOPOLOGY: Fault.ERROR}
        oracle.nodes.append(node_row(C, URL_C))

        assert {one.url for one in await found(nodes, polls=5)} == {URL_A, URL_B, URL_C}


@pytest.mark.asyncio
class TestKeeping:
    async def test_the_list_outlives_the_process(
        self, oracle: OracleServer, client: OracleClient, store: Store
    ) -> None:
        oracle.nodes = [node_row(A, URL_A, MODEL)]
        before = await found(discovering(client, store))
        oracle.fault = Fault.ERROR

        assert await discovering(client, store).listed() == before
        assert await found(discovering(client, store)) == before

    async def test_while_redis_is_away_it_remembers_and_says_that_it_could_not_keep_the_list(
        self, oracle: OracleServer, client: OracleClient, tmp_path: Path
    ) -> None:
        oracle.nodes = [node_row(A, URL_A)]
        server = RedisServer(tmp_path)
        server.start()
        async with open_store(server.url) as store:
            nodes = discovering(client, store)
            await nodes.refresh()
            server.stop()
            oracle.nodes.append(node_row(B, URL_B))
            with pytest.raises(StoreUnavailable):
                await nodes.refresh()

            assert [one.url for one in await nodes.listed()] == [URL_A, URL_B]

    async def test_a_list_that_was_never_read_is_not_taken_for_an_empty_one(self, client: OracleClient) -> None:
        async with open_store("unix:///nowhere/redis.sock") as away:
            with pytest.raises(StoreUnavailable):
                await discovering(client, away).listed()

    async def test_a_list_of_another_version_is_written_anew(
        self, oracle: OracleServer, nodes: OracleNodes, store: Store
    ) -> None:
        await store.set(redis_keys.ORACLE_NODES, '{"version": 9}', 60)
        assert await nodes.listed() == []
        oracle.nodes = [node_row(A, URL_A)]

        assert [one.url for one in await found(nodes)] == [URL_A]
