"""A user's receipts: what he was charged for one answer, signed by the gateway's wallet."""

from __future__ import annotations

import asyncio
import re

import msgspec

from core import redis_keys
from core.auth.caller import Caller
from core.billing.receipt_book import Entry, ReceiptBook
from core.bus import Bus
from core.errors import PaymentOff, SignerAway, UnknownReceipt

TOPIC = redis_keys.to_all("receipts")
REQUEST_ID = re.compile(r"(?:chatcmpl-|cmpl-)?(req_[0-9]{1,16}_[0-9a-f]{16})", re.ASCII)
PATIENCE_S = 2.0
LOOK_S = 0.04  # how often to look whether it is signed by now


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """To the signer: sign this receipt of this user. What it says, the signer reads for itself."""

    user: str
    request_id: str


class Receipts:
    """Hands receipts out; the key that signs them is in another process, which is asked over the bus."""

    def __init__(self, book: ReceiptBook | None, bus: Bus, *, patience_s: float = PATIENCE_S) -> None:
        self._book = book  # None without a payment contract
        self._bus = bus
        self._looks = round(patience_s / LOOK_S)

    async def of(self, caller: Caller, answer_id: str) -> Entry:
        """
        The signed receipt of the caller's answer, which goes by its id at any door.

        Raises UnknownReceipt, SignerAway when it is not signed in time, StoreUnavailable, and PaymentOff without a
        payment contract.
        """
        if self._book is None:
            raise PaymentOff
        known = REQUEST_ID.fullmatch(answer_id)
        if known is None:
            raise UnknownReceipt(answer_id)
        wanted = Wanted(caller.subject, known[1])
        entry = await _look(self._book, wanted)
        if entry.signature is None:
            await self._bus.publish(TOPIC, msgspec.msgpack.encode(wanted))
            entry = await self._once_signed(self._book, wanted)
        return entry

    async def _once_signed(self, book: ReceiptBook, wanted: Wanted) -> Entry:
        for _ in range(self._looks):
            await asyncio.sleep(LOOK_S)
            entry = await _look(book, wanted)
            if entry.signature is not None:
                return entry
        raise SignerAway


async def _look(book: ReceiptBook, wanted: Wanted) -> Entry:
    entry = await book.look(wanted.user, wanted.request_id)
    if entry is None:
        raise UnknownReceipt(wanted.request_id)
    return entry
