"""Gives a TCP connection to another worker of this machine (SCM_RIGHTS of unix(7)), and takes those of others."""

from __future__ import annotations

import array
import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 96 * 1024  # of one message: well below what a Unix socket takes by default
BACKLOG = 128
BATCH = 64  # connections that are taken before other work gets its turn
CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
FD_BYTES = array.array("i").itemsize

Adopt = Callable[[socket.socket, bytes], None]

log = logging.getLogger(__name__)


class Handover:
    """
    A worker's mailbox in the meeting folder, and its lines to the mailboxes of the others.

    Whatever can't be given (no such worker here, its queue is full, the message is too long, no SEQPACKET in this
    kernel) stays with the giver, who finds another way.
    """

    def __init__(self, folder: Path | None, worker_id: str, adopt: Adopt) -> None:
        self._folder = folder
        self._worker_id = worker_id
        self._adopt = adopt
        self._mailbox: socket.socket | None = None
        self._senders: set[socket.socket] = set()
        self._lines: dict[str, socket.socket] = {}

    def open(self) -> None:
        """Takes connections from now on; a machine that can't do it is no error."""
        if self._folder is None:
            return
        try:
            self._mailbox = _mailbox(self._folder / self._worker_id)
        except OSError as problem:
            log.warning("connections can't be handed over, they are relayed: %s", problem)
        else:
            asyncio.get_running_loop().add_reader(self._mailbox, self._accept, self._mailbox)

    def close(self) -> None:
        """Takes no more; what is on its way to this worker is closed by the kernel."""
        loop = asyncio.get_running_loop()
        if self._mailbox is not None:
            Path(self._mailbox.getsockname()).unlink(missing_ok=True)
            self._senders.add(self._mailbox)
        for source in self._senders:
            loop.remove_reader(source)
            source.close()
        for line in self._lines.values():
            line.close()
        self._senders.clear()
        self._lines.clear()
        self._mailbox = None

    def give(self, owner: str, fd: int, data: bytes) -> bool:
        """
        Sends a connection and what was read of it; True when it is the owner's from here on.

        The caller then closes its own copy, without a shutdown(2).
        """
        if self._mailbox is None or self._folder is None or len(data) > MOST_BYTES:
            return False
        try:
            if owner not in self._lines:
                self._lines[owner] = _line(self._folder / owner)
            self._lines[owner].sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        except BlockingIOError:
            return False
        except OSError:
            if (line := self._lines.pop(owner, None)) is not None:
                line.close()
            return False
        return True

    def _accept(self, mailbox: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                sender, _ = mailbox.accept()
                sender.settimeout(0)
                self._senders.add(sender)
                asyncio.get_running_loop().add_reader(sender, self._take, sender)

    def _take(self, sender: socket.socket) -> None:
        with suppress(BlockingIOError):
            for _ in range(BATCH):
                if not self._take_one(sender):
                    self._forget(sender)
                    return

    def _take_one(self, sender: socket.socket) -> bool:
        """False when the sender has ended."""
        try:
            data, ancillary, _, _ = sender.recvmsg(MOST_BYTES, socket.CMSG_SPACE(FD_BYTES), CLOSE_ON_EXEC)
        except ConnectionError:
            return False
        for connection in _connections(ancillary):
            self._adopt(connection, data)
        return bool(data)

    def _forget(self, sender: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(sender)
        self._senders.discard(sender)
        sender.close()


def _connections(ancillary: list[tuple[int, int, bytes]]) -> list[socket.socket]:
    """The file descriptors of a message, each in a socket that owns it."""
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % FD_BYTES])
    return [connection for fd in fds if (connection := _opened(fd)) is not None]


def _opened(fd: int) -> socket.socket | None:
    try:
        connection = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        return None
    connection.settimeout(0)
    return connection


def _mailbox(path: Path) -> socket.socket:
    mailbox = _seqpacket()
    try:
        mailbox.bind(str(path))
        mailbox.listen(BACKLOG)
    except OSError:
        mailbox.close()
        raise
    return mailbox


def _line(path: Path) -> socket.socket:
    line = _seqpacket()
    try:
        line.connect(str(path))
    except OSError:
        line.close()
        raise
    return line


def _seqpacket() -> socket.socket:
    created = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # macOS has none: OSError
    created.settimeout(0)
    return created
