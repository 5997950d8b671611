"""The signer of receipts, in the one process that has the key."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import msgspec

from core.billing.receipt_book import ReceiptBook
from core.billing.receipts import TOPIC, Wanted
from core.bus import Bus
from core.errors import StoreUnavailable
from core.wallet import Signer

MOST_WAITING = 1000  # what comes when so many wait is not signed: its client is told to ask again

log = logging.getLogger(__name__)


class ReceiptSigner:
    """
    Signs the receipts that web workers ask for.

    A message says only which one is wanted: what is signed is what the ledger says in that moment. Any number of
    signers may run at once, since they all sign the same.
    """

    def __init__(self, book: ReceiptBook, bus: Bus, signer: Signer) -> None:
        self._book = book
        self._bus = bus
        self._signer = signer
        self._wanted: asyncio.Queue[Wanted] = asyncio.Queue(MOST_WAITING)

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        await self._bus.subscribe(TOPIC, self._take)
        try:
            while True:
                await self._serve(await self._wanted.get())
        finally:
            await self._bus.unsubscribe(TOPIC)

    def _take(self, message: bytes) -> None:
        with suppress(msgspec.DecodeError, asyncio.QueueFull):  # who sent it will ask again, if it was sent in earnest
            self._wanted.put_nowait(msgspec.msgpack.decode(message, type=Wanted))

    async def _serve(self, wanted: Wanted) -> None:
        try:
            await self._sign(wanted)
        except StoreUnavailable:
            log.warning("a receipt is not signed: the store is away")
        except Exception:  # one that can't be signed must not keep the others waiting
            log.exception("the receipt of %s can't be signed", wanted.request_id)

    async def _sign(self, wanted: Wanted) -> None:
        entry = await self._book.look(wanted.user, wanted.request_id)
        if entry is not None and entry.signature is None:
            await self._book.keep(entry, self._signer.sign_typed(entry.typed_data), self._signer.address)
