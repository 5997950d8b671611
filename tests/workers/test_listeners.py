"""Listening sockets."""

from __future__ import annotations

import socket

import pytest

from bench.ports import free_port
from workers.listeners import CantListen, bound_sockets, refuse

HOST = "127.0.0.1"


def greeted(port: int, listener: socket.socket) -> bytes:
    """What a server on the listener reads of a client that says hello."""
    with socket.create_connection((HOST, port)) as client:
        client.sendall(b"hello")
        connection, _ = listener.accept()
        with connection:
            return connection.recv(5)


class TestBoundSockets:
    def test_all_are_on_the_same_port_and_none_listens_yet(self) -> None:
        port = free_port()
        with bound_sockets(HOST, port, 3) as listeners:
            assert [listener.getsockname() for listener in listeners] == [(HOST, port)] * 3
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, port))

    def test_a_port_of_another_gateway_is_not_shared(self) -> None:
        port = free_port()
        with bound_sockets(HOST, port, 2) as listeners:
            listeners[0].listen()
            with pytest.raises(CantListen, match="Address already in use"), bound_sockets(HOST, port, 2):
                pass

    def test_a_host_that_is_not_this_machine_is_told(self) -> None:
        with pytest.raises(CantListen, match="HOST, PORT: can't listen on"), bound_sockets("192.0.2.1", 3200, 1):
            pass

    @pytest.mark.parametrize("host", ["bad..host", "a" * 64])
    def test_a_host_that_is_none_is_told(self, host: str) -> None:
        with pytest.raises(CantListen, match=f"HOST, PORT: can't listen on {host}:3200: it is no host's name"):
            bound_sockets(host, 3200, 1).__enter__()


class TestRefuse:
    def test_refuses_clients_at_once(self) -> None:
        port = free_port()
        with bound_sockets(HOST, port, 1) as (listener,):
            listener.listen()
            refuse(listener)

            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, port))

    @pytest.mark.parametrize("times", [1, 2, 3])
    def test_the_socket_may_listen_again_however_often_it_was_refused(self, times: int) -> None:
        port = free_port()
        with bound_sockets(HOST, port, 1) as (listener,):
            listener.listen()
            for _ in range(times):
                refuse(listener)
            listener.listen()

            assert greeted(port, listener) == b"hello"
