"""Where workers are reached: a listening socket for each on the same port, and a folder to meet in."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

LONGEST_TMP = 70  # bytes: a Unix socket's path has at most 107, on macOS 103, and names in the folder take up to 33


class CantListen(Exception):
    """The address can't be listened on; the message says why."""


@contextmanager
def bound_sockets(host: str, port: int, count: int) -> Iterator[list[socket.socket]]:
    """
    Binds `count` sockets, not listening yet: one a worker, so that the kernel spreads connections evenly.

    Raises CantListen.

    A first socket without SO_REUSEPORT asks whether the port is free: with it, a second gateway would silently
    take half of the first one's connections.
    """
    with ExitStack() as stack:
        try:
            _bound(host, port).close()
            listeners = [stack.enter_context(_bound(host, port, socket.SO_REUSEPORT)) for _ in range(count)]
        except (OSError, UnicodeError) as problem:  # UnicodeError: what can't be any host's name
            why = problem.strerror if isinstance(problem, OSError) else "it is no host's name"
            raise CantListen(f"HOST, PORT: can't listen on {host}:{port}: {why}") from problem
        yield listeners


@contextmanager
def meeting_folder() -> Iterator[Path]:
    """A folder for this user only, where the workers of one command leave sockets for each other."""
    usual = tempfile.gettempdir()
    place = usual if len(os.fsencode(usual)) <= LONGEST_TMP else "/tmp"  # noqa: S108 - a private folder is made in it
    folder = Path(tempfile.mkdtemp(prefix="plm-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refuse(listener: socket.socket) -> None:
    """
    Stops listening in every process that shares the socket; a client is refused at once from here on.

    Only a socket that does listen: shutting down another one marks it for good, and each connection that it accepts
    after a later listen() would begin at its end.
    """
    with suppress(OSError):
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.shutdown(socket.SHUT_RDWR)


def _bound(host: str, port: int, *options: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        for option in (socket.SO_REUSEADDR, *options):
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
