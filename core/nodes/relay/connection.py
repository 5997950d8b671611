"""One agent's socket, as everything behind the WebSocket door sees it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from core.nodes.relay import frames
from core.nodes.relay.directory import Entry
from core.nodes.relay.exchange import Receiver
from core.nodes.transport.failures import NodeBroken, NodeFailed

MOST_ASKED = 64  # requests that one agent is asked at the same time
MOST_STRAYS, STRAYS_S = 5000, 10.0  # messages of no request, in a time: more than what is left of answers nobody wants
FLOODING = 1008, "Too many messages"
GOING_AWAY = 1001, "Going away"
MOST_WAITING = 128  # messages for an agent that does not read

log = logging.getLogger(__name__)


class AgentConnection:
    """
    Requests go out through `outbox`, in order; answers find the one who asked by the request's id.

    An id is bound to the connection that was asked: nobody answers another agent's request, whatever he guesses.
    `close` ends the WebSocket with a code and a reason (RFC 6455, 7.4), at once.
    """

    def __init__(self, entry: Entry, close: Callable[[int, str], object]) -> None:
        self.entry = entry
        self.close = close
        self.outbox: asyncio.Queue[str] = asyncio.Queue(MOST_WAITING)
        self._asked: dict[str, Receiver] = {}
        self._is_lost = self._is_leaving = False
        self._strays = 0
        self._counted_from = 0.0
        self._is_odd = False  # it was in the log for that

    def ask(self, request_id: str, body: bytes, receiver: Receiver) -> None:
        """Sends a request; its answer goes to `receiver` until `forget`. Raises NodeFailed when it can't."""
        if self._is_lost:
            raise NodeBroken("its connection is lost")
        if len(self._asked) >= MOST_ASKED or self.outbox.full():
            raise NodeFailed("it has too much to do")
        self._asked[request_id] = receiver
        self.outbox.put_nowait(frames.request(request_id, body))

    def forget(self, request_id: str) -> None:
        """Drops what still comes for a request: the agents' protocol has no word for taking one back."""
        self._asked.pop(request_id, None)
        self._leave_if_idle()

    def receive(self, message: str | bytes | None) -> None:
        """Takes one message of the agent; what is none of the protocol is ignored, and counted like a ping."""
        frame = frames.read(message)
        if frame is not None and frame.type in (*frames.ENDS, "chunk"):
            self._answer(frame, message)
        elif frame is not None and frame.type == "ping":
            self._count()
            if not self.outbox.full():
                self.outbox.put_nowait(frames.PONG)
        else:
            self._stray("sends what is no message")

    def lost(self) -> None:
        """The socket is gone: whoever waits hears of it now."""
        self._is_lost = True
        asked, self._asked = self._asked, {}
        for receiver in asked.values():
            receiver.fail(NodeBroken("its connection is lost"))

    def retire(self) -> None:
        """This worker is about to end: the agent is sent away as soon as nobody waits for it."""
        self._is_leaving = True
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self._is_leaving and not self._asked and not self._is_lost:
            self._is_leaving = False  # once is enough
            self.close(*GOING_AWAY)

    def _answer(self, frame: frames.Frame, message: str | bytes | None) -> None:
        receiver = self._asked.get(frame.id)
        if receiver is None:
            self._stray("answers what it was not asked, or no more")
            return
        if frame.type in frames.ENDS:
            del self._asked[frame.id]
        receiver.feed(frame.type, message.encode() if isinstance(message, str) else b"")
        self._leave_if_idle()

    def _stray(self, what: str) -> None:
        if not self._is_odd:
            log.warning("agent %s %s", self.entry.address, what)
        self._is_odd = True
        self._count()

    def _count(self) -> None:
        """Ends the connection when more came than belongs to requests."""
        now = asyncio.get_running_loop().time()
        if now - self._counted_from > STRAYS_S:
            self._counted_from, self._strays = now, 0
        self._strays += 1
        if self._strays == MOST_STRAYS + 1:
            self.close(*FLOODING)
