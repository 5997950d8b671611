"""Connections that change their worker: whatever was read of them, whatever follows, and whatever goes wrong."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from blueprints.socket.handover import MOST_BYTES, Handover
from blueprints.socket.session_ids import new_session_id, owner_of
from core.worker_id import new_worker_id
from tests.e2e.server import GatewayServer
from tests.fakes.engineio_client import QUERY, Connection
from tests.test_bus import until

GIVER, OWNER = "giver000", "owner000"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A meeting folder; its path is short, as a Unix socket's has to be."""
    with tempfile.TemporaryDirectory(prefix="plm-") as path:
        yield Path(path)


class Taken(list[tuple[socket.socket, bytes]]):
    """What a worker took."""

    def __call__(self, connection: socket.socket, first: bytes) -> None:
        self.append((connection, first))

    def close(self) -> None:
        for connection, _ in self:
            connection.close()


@pytest_asyncio.fixture
async def taken(folder: Path) -> AsyncIterator[Taken]:
    """What the owner took; it is open."""
    with closing(Taken()) as taken:
        handover = Handover(folder, OWNER, taken)
        handover.open()
        yield taken
        handover.close()


@pytest_asyncio.fixture
async def giver(folder: Path) -> AsyncIterator[Handover]:
    """A worker that gives."""
    handover = Handover(folder, GIVER, Taken())
    handover.open()
    yield handover
    handover.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: the client's end and the server's."""
    client, server = socket.socketpair()
    with client, server:
        client.settimeout(5)
        yield client, server


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


Ends = tuple[socket.socket, socket.socket]


class TestGiving:
    @pytest.mark.asyncio
    async def test_the_owner_gets_the_connection_and_what_was_read(
        self, giver: Handover, taken: Taken, ends: Ends
    ) -> None:
        client, server = ends

        assert giver.give(OWNER, server.fileno(), b"GET /")
        server.close()  # the giver's copy only

        await until(lambda: len(taken) == 1)
        connection, first = taken[0]
        assert first == b"GET /"
        connection.sendall(b"hello")
        assert client.recv(5) == b"hello"
        assert not connection.get_inheritable()

    @pytest.mark.asyncio
    async def test_nobody_of_that_name_is_no_owner(self, giver: Handover, ends: Ends) -> None:
        assert not giver.give("nobody00", ends[1].fileno(), b"")

    @pytest.mark.asyncio
    async def test_an_owner_that_died_is_no_owner_and_its_place_is_left(
        self, giver: Handover, folder: Path, ends: Ends
    ) -> None:
        owner = Handover(folder, OWNER, Taken())
        owner.open()
        assert giver.give(OWNER, ends[1].fileno(), b"lost")
        before = open_fds()
        owner.close()

        assert not giver.give(OWNER, ends[1].fileno(), b"")
        assert open_fds() < before
        assert not (folder / OWNER).exists()

    @pytest.mark.asyncio
    async def test_a_mailbox_that_is_full_refuses_and_loses_nothing(
        self, giver: Handover, taken: Taken, ends: Ends
    ) -> None:
        given = 0
        while giver.give(OWNER, ends[1].fileno(), b"x" * 10_000):  # nobody takes them yet
            given += 1
            assert given < 10_000

        await until(lambda: len(taken) == given)
        assert giver.give(OWNER, ends[1].fileno(), b"again")
        await until(lambda: taken[-1][1] == b"again")

    @pytest.mark.asyncio
    async def test_the_longest_message_fits_and_a_longer_one_stays(
        self, giver: Handover, taken: Taken, ends: Ends
    ) -> None:
        assert giver.give(OWNER, ends[1].fileno(), b"x" * MOST_BYTES)
        assert not giver.give(OWNER, ends[1].fileno(), b"x" * (MOST_BYTES + 1))

        await until(lambda: len(taken) == 1)
        assert len(taken[0][1]) == MOST_BYTES

    @pytest.mark.asyncio
    async def test_no_descriptor_is_left_after_a_thousand(self, giver: Handover, taken: Taken) -> None:
        before = open_fds()
        for number in range(1000):
            client, server = socket.socketpair()
            assert giver.give(OWNER, server.fileno(), b"%d" % number)
            client.close()
            server.close()
            await until(lambda: len(taken) == 1)
            taken.pop()[0].close()

        assert open_fds() <= before + 2  # the line between both

    @pytest.mark.asyncio
    async def test_without_a_folder_nothing_is_given(self, ends: Ends) -> None:
        handover = Handover(None, GIVER, Taken())
        handover.open()

        assert not handover.give(OWNER, ends[1].fileno(), b"")
        handover.close()

    @pytest.mark.asyncio
    async def test_a_folder_that_is_too_deep_is_told_and_nothing_is_given(
        self, folder: Path, ends: Ends, caplog: pytest.LogCaptureFixture
    ) -> None:
        handover = Handover(folder / ("x" * 120), GIVER, Taken())
        handover.open()

        assert not handover.give(OWNER, ends[1].fileno(), b"")
        assert "they are relayed" in caplog.text
        handover.close()


class TestSessionIds:
    def test_they_name_their_owner(self) -> None:
        worker = new_worker_id()

        assert owner_of(new_session_id(worker)) == worker
        assert new_session_id(worker) != new_session_id(worker)

    @pytest.mark.parametrize("made_up", ["", "short", "../../../x", "a" * 8, "a" * 200, "aaaaaaa/bbbbb", "aaaaaaaa\n1"])
    def test_others_name_nobody(self, made_up: str) -> None:
        assert owner_of(made_up) is None


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayServer]:
    """Two workers that give each other connections."""
    env = {"WEB_CONCURRENCY": "2", "SHUTDOWN_TIMEOUT": "2s"}
    with (
        tempfile.TemporaryDirectory(prefix="plm-") as path,
        GatewayServer(Path(path), env, ("-m", "tests.e2e.socket_app", "--web-only")) as server,
    ):
        yield server


@pytest.fixture
def session_ids(gateway: GatewayServer) -> list[str]:
    """A session of each worker: whatever connection is used, one of them is another worker's."""
    owned: dict[str | None, str] = {}
    while len(owned) < 2:
        session_id = Connection(gateway.port).open_session()
        owned[owner_of(session_id)] = session_id
    return list(owned.values())


@pytest.fixture
def connection(gateway: GatewayServer) -> Connection:
    """A connection to one of the workers."""
    return Connection(gateway.port)


def pid(connection: Connection) -> int:
    """Of the worker that serves the connection now."""
    return int(json.loads(connection.ask("GET", "/state").body)["pid"])


def path(session_id: str) -> str:
    return f"{QUERY}polling&sid={session_id}"


POST = b"40/echo,"


class TestOverHttp:
    """The connection goes to and fro, since the sessions that are asked for belong to both workers in turn."""

    def test_a_connection_follows_its_requests_from_worker_to_worker(
        self, connection: Connection, session_ids: list[str]
    ) -> None:
        seen = []
        for session_id in session_ids * 3:
            assert connection.ask("POST", path(session_id), POST).body == b"OK"
            seen.append(pid(connection))

        assert seen[0::2] == seen[:1] * 3
        assert seen[1::2] == seen[1:2] * 3
        assert seen[0] != seen[1]

    def test_a_head_in_pieces(self, connection: Connection, session_ids: list[str]) -> None:
        for session_id in session_ids:
            for byte in connection.head("POST", path(session_id), {"Content-Length": str(len(POST))}) + POST:
                connection.socket.sendall(bytes([byte]))

            assert connection.response().body == b"OK"

    def test_a_body_that_comes_later(self, connection: Connection, session_ids: list[str]) -> None:
        for session_id in session_ids:
            head = connection.head("POST", path(session_id), {"Content-Length": "20008"})
            connection.socket.sendall(head)
            connection.socket.sendall(POST + b" " * 10_000)
            connection.socket.sendall(b" " * 10_000)

            assert connection.response().status in (200, 400)  # whatever it thinks of the spaces, it has read them
            assert pid(connection)

    def test_a_chunked_body(self, connection: Connection, session_ids: list[str]) -> None:
        for session_id in session_ids:
            connection.socket.sendall(connection.head("POST", path(session_id), {"Transfer-Encoding": "chunked"}))
            connection.socket.sendall(b"8\r\n" + POST + b"\r\n0\r\n\r\n")

            assert connection.response().status == 200
            assert pid(connection)

    def test_a_client_that_waits_for_100_continue(self, connection: Connection, session_ids: list[str]) -> None:
        for session_id in session_ids:
            fields = {"Content-Length": str(len(POST)), "Expect": "100-continue"}
            connection.socket.sendall(connection.head("POST", path(session_id), fields))
            assert connection.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.socket.sendall(POST)

            assert connection.response().body == b"OK"

    def test_requests_that_did_not_wait_for_each_other(self, connection: Connection, session_ids: list[str]) -> None:
        requests = []
        for session_id in session_ids * 2:
            requests.append(connection.head("POST", path(session_id), {"Content-Length": str(len(POST))}) + POST)
            requests.append(connection.head("GET", "/state"))
        connection.socket.sendall(b"".join(requests))

        served = []
        for _ in session_ids * 2:
            assert connection.response().body == b"OK"
            served.append(json.loads(connection.response().body)["pid"])
        assert served[:2] == served[2:]
        assert served[0] != served[1]

    def test_more_than_a_message_takes_is_relayed(self, connection: Connection, session_ids: list[str]) -> None:
        for session_id in session_ids:
            post = connection.head("POST", path(session_id), {"Content-Length": str(len(POST))}) + POST
            others = connection.head("GET", "/state") * (2 * MOST_BYTES // 60)
            connection.socket.sendall(post)
            connection.socket.sendall(others[: len(others) // 2])
            assert connection.response().body == b"OK"
            connection.close()
            connection = Connection(int(connection.port))


def test_the_tests_run_where_connections_can_be_given() -> None:
    assert hasattr(socket, "SOCK_SEQPACKET")
    assert os.name == "posix"
