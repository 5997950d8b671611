"""Messages between the gateway's processes, on any machine: Redis pub/sub with one sender and one receiver each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from core.ending import end
from core.errors import StoreUnavailable

PATIENCE_S = 0.75  # of one who waits for a message to be sent: clients are to be told 503 within a second
TIMEOUT_S = 5.0  # a busy machine must not lose messages, as it would when a reply that is there is given up
PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0  # before a lost connection is tried again
LOOK_S = 5.0  # how often the other end is asked whether it still lives, and how long it may be silent then
MOST_QUEUED = 64 * 1024 * 1024  # bytes that wait to be sent

Receive = Callable[[bytes], None]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Letter:
    topic: str
    message: bytes
    sent: asyncio.Future[int] | None  # how many processes received it; nobody waits for None


class Bus:
    """
    Messages go to all processes that listen to a topic at that moment: at most once, and in the sender's order.

    One task sends everything, whatever has gathered meanwhile as one pipeline: else messages could overtake each
    other. What is sent while Redis is away is lost: who needs certainty has the
    other side answer.
    """

    def __init__(self, sender: Redis, receiver: Redis) -> None:
        self._sender = sender
        self._receiver = receiver
        self._queue: list[_Letter] = []
        self._queued = 0  # bytes
        self._wake = asyncio.Event()
        self._receivers: dict[str, Receive] = {}
        self._confirmations: dict[str, asyncio.Future[None]] = {}
        self._when_alive: list[Callable[[float], None]] = []
        self._when_lost: list[Callable[[], None]] = []
        self._when_back: list[Callable[[], None]] = []
        self._pubsub: PubSub | None = None

    async def publish(self, topic: str, message: bytes) -> int:
        """Sends; the number of processes that received it. Raises StoreUnavailable: it may be sent all the same."""
        sent: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._put(_Letter(topic, message, sent))
        try:
            return await asyncio.wait_for(sent, PATIENCE_S)
        except TimeoutError:
            raise StoreUnavailable from None

    def post(self, topic: str, message: bytes) -> None:
        """Sends without waiting, and without a word when that fails. Raises StoreUnavailable when too much waits."""
        self._put(_Letter(topic, message, None))

    async def subscribe(self, topic: str, receive: Receive) -> None:
        """
        Has each message of the topic handed to a plain function, from the moment this returns.

        A Redis that is away is no error: the subscription begins when it is back.
        """
        self._receivers[topic] = receive
        if self._pubsub is not None:
            confirmed = self._confirmations[topic] = asyncio.get_running_loop().create_future()
            with suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(TIMEOUT_S):
                    await self._pubsub.subscribe(topic)
                    await confirmed

    async def unsubscribe(self, topic: str) -> None:
        """Ends it; unknown topics do not matter."""
        if self._receivers.pop(topic, None) is not None and self._pubsub is not None:
            with suppress(RedisError, OSError):
                await self._pubsub.unsubscribe(topic)

    @property
    def is_heard(self) -> bool:
        """Whether messages reach this process now."""
        return self._pubsub is not None

    def when_alive(self, callback: Callable[[float], None]) -> None:
        """Calls back every few seconds with a monotonic time at which the Redis of before a break still lived."""
        self._when_alive.append(callback)

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Calls back as each break is noticed: Redis may be dead since the last sign of life."""
        self._when_lost.append(callback)

    def when_back(self, callback: Callable[[], None]) -> None:
        """Calls back after each break, once all topics are heard again: messages may have been missed."""
        self._when_back.append(callback)

    # -- sending

    def _put(self, letter: _Letter) -> None:
        if self._queued > MOST_QUEUED:
            raise StoreUnavailable
        self._queued += len(letter.message)
        self._queue.append(letter)
        self._wake.set()

    async def send_queued(self) -> None:
        """Sends what is put into the queue, until it is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            letters, self._queue, self._queued = self._queue, [], 0
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    counts = await self._send(letters)
            except (RedisError, OSError, TimeoutError):
                # A half-read reply must not answer the next command.
                await self._sender.connection_pool.disconnect(inuse_connections=True)
                for letter in letters:
                    if letter.sent is not None and not letter.sent.done():
                        letter.sent.set_exception(StoreUnavailable())
            else:
                for letter, count in zip(letters, counts, strict=True):
                    if letter.sent is not None and not letter.sent.done():
                        letter.sent.set_result(count)

    async def _send(self, letters: list[_Letter]) -> list[int]:
        pipeline = self._sender.pipeline(transaction=False)
        for letter in letters:
            pipeline.publish(letter.topic, letter.message)
        counts: list[int] = await pipeline.execute()
        return counts

    # -- receiving

    async def receive(self) -> None:
        """Hands out what arrives and mends the connection, until it is cancelled."""
        pause_s, was_away = PAUSE_S, False
        while True:
            try:
                async with self._subscribed() as pubsub:
                    if was_away:
                        _tell(self._when_back)
                    pause_s, was_away = PAUSE_S, False
                    await self._hand_out(pubsub)
            except (RedisError, OSError, TimeoutError):
                if not was_away:
                    _tell(self._when_lost)
                was_away = True
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    @asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[PubSub]:
        pubsub = self._receiver.pubsub()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await _ask(pubsub)
                if self._receivers:
                    await pubsub.subscribe(*self._receivers)
            self._pubsub = pubsub
            yield pubsub
        finally:
            self._pubsub = None
            await pubsub.aclose()  # type: ignore[no-untyped-call] # redis-py leaves it so

    async def _hand_out(self, pubsub: PubSub) -> None:
        """Asks now and then, however much comes in: what lay in a buffer does not say that its sender still lives."""
        asked_at, waits = time.monotonic(), True
        while True:
            message: dict[str, Any] | None = await pubsub.get_message(timeout=LOOK_S)
            if message is not None:
                self._take(message)
                waits = waits and message["type"] != "pong"
            elif waits:
                raise TimeoutError
            if not waits and time.monotonic() >= asked_at + LOOK_S:
                asked_at, waits = time.monotonic(), True
                await _ask(pubsub)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            self._deliver(message["channel"].decode(), message["data"])
        elif message["type"] == "subscribe":
            self._confirm(message["channel"].decode())
        elif message["type"] == "pong":
            for callback in self._when_alive:
                callback(float(message["data"]))

    def _deliver(self, topic: str, message: bytes) -> None:
        receive = self._receivers.get(topic)
        if receive is None:
            return
        try:
            receive(message)
        except Exception:
            log.exception("a message of %s could not be handled", topic)

    def _confirm(self, topic: str) -> None:
        confirmed = self._confirmations.pop(topic, None)
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(None)


async def _ask(pubsub: PubSub) -> None:
    """The answer will carry the time of the question."""
    await pubsub.ping(repr(time.monotonic()))


def _tell(callbacks: list[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()


@asynccontextmanager
async def open_bus(redis_url: str) -> AsyncIterator[Bus]:
    """Opens both connections and closes them at the end; it does not wait for Redis to be there."""
    sender, receiver = _client(redis_url, TIMEOUT_S), _client(redis_url, None)
    bus = Bus(sender, receiver)
    tasks = [asyncio.create_task(bus.send_queued()), asyncio.create_task(bus.receive())]
    try:
        yield bus
    finally:
        await end(tasks)
        await sender.aclose()
        await receiver.aclose()


def _client(redis_url: str, timeout_s: float | None) -> Redis:
    return Redis.from_url(
        redis_url,
        socket_timeout=timeout_s,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0, ()),  # of no error: it would connect again before it tells that it was away
    )
