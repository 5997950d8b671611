"""The way from the worker where a client comes back to the one that makes his answer."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from functools import partial

import msgspec

from core import redis_keys
from core.bus import Bus
from core.errors import GatewayError, StoreUnavailable, UnknownAnswer
from core.inference.answers.answer import Answer, Listener
from core.inference.answers.book import AnswerBook
from core.inference.answers.borrowing import Borrowing
from core.inference.answers.lending import Lending
from core.inference.answers.link import BEAT_S, PURPOSE, Link, OpenLink
from core.inference.answers.messages import Failed, Found, Message, Resume, Stop, decode, encode, error_of, failed

FIND_S = 1.0  # how long the others have to say that an answer is theirs

log = logging.getLogger(__name__)


class AnswerRelay:
    """Asks the other workers for answers, and gives them those of this one. Workers trust each other's subjects."""

    def __init__(self, bus: Bus, worker_id: str, book: AnswerBook, beat_s: float = BEAT_S) -> None:
        self._bus = bus
        self._worker_id = worker_id
        self._book = book
        self._open_link: OpenLink = partial(Link, bus, beat_s)
        self._asked: dict[bytes, asyncio.Future[Message]] = {}  # by link: who waits for the owner's word
        self._borrowed: dict[bytes, Borrowing] = {}
        self._lent: dict[bytes, Lending] = {}

    def __len__(self) -> int:
        return len(self._asked) + len(self._borrowed) + len(self._lent)

    async def start(self) -> None:
        """Begins to listen to the others."""
        await self._bus.subscribe(redis_keys.to_all(PURPOSE), self._hear)
        await self._bus.subscribe(redis_keys.to_worker(self._worker_id, PURPOSE), self._hear)

    async def aclose(self) -> None:
        """Leaves the others."""
        await self._bus.unsubscribe(redis_keys.to_all(PURPOSE))
        for borrowing in tuple(self._borrowed.values()):
            borrowing.detach()
        for lending in tuple(self._lent.values()):
            lending.close()
        await self._bus.unsubscribe(redis_keys.to_worker(self._worker_id, PURPOSE))

    def interrupt(self, error: GatewayError) -> None:
        """Ends what is borrowed: the listeners are told why."""
        for borrowing in tuple(self._borrowed.values()):
            borrowing.fail(error)

    async def resume(self, subject: str, name: str, after_seq: int, listener: Listener) -> Answer:
        """Borrows an answer. Raises UnknownAnswer when it is nobody's, or StoreUnavailable."""
        link = secrets.token_bytes(16)
        borrowing = Borrowing((link, self._worker_id), listener, after_seq, self._returned)
        self._borrowed[link] = borrowing
        try:
            word = await self._ask(Resume(link, self._worker_id, subject, name, after_seq))
            if isinstance(word, Failed):
                raise error_of(word)
            if word is None:
                raise UnknownAnswer(name)
        except BaseException:
            borrowing.detach()
            raise
        return borrowing

    async def cancel(self, subject: str, name: str) -> bool:
        """Has the owner stop an answer; whether there was one that still ran. Raises StoreUnavailable."""
        word = await self._ask(Stop(secrets.token_bytes(16), self._worker_id, subject, name))
        return isinstance(word, Found)

    async def _ask(self, question: Message) -> Message | None:
        """The owner's word; None when it is nobody's. Raises StoreUnavailable."""
        if not self._bus.is_heard:
            raise StoreUnavailable
        word: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[question.link] = word
        try:
            await self._bus.publish(redis_keys.to_all(PURPOSE), encode(question))
            with suppress(TimeoutError):
                async with asyncio.timeout(FIND_S):
                    return await word
            return None
        finally:
            del self._asked[question.link]

    # -- what the others say

    def _hear(self, raw: bytes) -> None:
        try:
            message = decode(raw)
        except msgspec.DecodeError as problem:
            log.warning("a message of another worker was dropped: %s", problem)
            return
        if message.sender == self._worker_id:
            return
        if isinstance(message, Resume):
            self._lend(message)
        elif isinstance(message, Stop):
            self._stop(message)
        elif isinstance(message, Found | Failed) and (word := self._asked.get(message.link)) and not word.done():
            self._begin(message, word)
        else:
            self._pass_on(message)

    def _pass_on(self, message: Message) -> None:
        """To the end of its link, if the sender is the one at the other end."""
        borrowing, lending = self._borrowed.get(message.link), self._lent.get(message.link)
        if borrowing is not None and borrowing.owner == message.sender:
            borrowing.hear(message)
        elif lending is not None and lending.asked.sender == message.sender:
            lending.hear(message)

    def _begin(self, message: Message, word: asyncio.Future[Message]) -> None:
        borrowing = self._borrowed.get(message.link)
        if borrowing is not None and isinstance(message, Found):
            borrowing.begin(self._open_link, message.sender)
        word.set_result(message)

    def _lend(self, asked: Resume) -> None:
        run = self._book.find(asked.subject, asked.name)
        if run is None:
            return
        lending = Lending(self._open_link, self._worker_id, asked, self._ended)
        self._lent[asked.link] = lending
        try:
            lending.answer = run.attach(lending, asked.after_seq)
            self._reply(Found(asked.link, self._worker_id), asked.sender)
        except UnknownAnswer as error:
            self._reply(failed(asked.link, self._worker_id, 0, error), asked.sender)
            lending.close()

    def _stop(self, asked: Stop) -> None:
        run = self._book.find(asked.subject, asked.name)
        if run is not None and run.cancel():
            self._reply(Found(asked.link, self._worker_id), asked.sender)

    def _reply(self, word: Message, asker: str) -> None:
        with suppress(StoreUnavailable):  # he will ask again
            self._bus.post(redis_keys.to_worker(asker, PURPOSE), encode(word))

    def _returned(self, borrowing: Borrowing) -> None:
        self._borrowed.pop(borrowing.link_id, None)

    def _ended(self, lending: Lending) -> None:
        self._lent.pop(lending.asked.link, None)
