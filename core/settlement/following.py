"""What becomes of the transactions that are open: only receipts in blocks that stand decide."""

from __future__ import annotations

import logging

from core.chain.account import Head, Receipt
from core.chain.debits import debit_in
from core.settlement.desk import Desk, Now
from core.settlement.fees import first, raised
from core.settlement.journal import OpenTx, Settlement, View

log = logging.getLogger(__name__)


class JournalLost(Exception):
    """The chain says something that can't be when the journal is whole."""


class Follower:
    """Methods raise StoreUnavailable and ChainUnavailable."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._mined: set[str] = set()  # forms that were seen in a block
        self._odd_since: dict[int, int] = {}  # nonce → block at which it first looked as if the journal were lost

    async def follow(self, view: View, now: Now) -> int:
        """Goes through the open transactions; how many of them remain. Raises JournalLost."""
        lowest = view.open[0].nonce if view.open else view.next
        self._note_odd(-1, now.head, odd=lowest is not None and now.count < lowest)
        remaining = [tx for tx in view.open if not await self._is_closed(tx, now)]
        self._odd_since = {
            nonce: seen for nonce, seen in self._odd_since.items() if nonce < 0 or _has(remaining, nonce)
        }
        return len(remaining)

    async def _is_closed(self, tx: OpenTx, now: Now) -> bool:
        receipt, digest = await self._receipt(tx)
        self._note_odd(tx.nonce, now.head, odd=receipt is None and now.count > tx.nonce)
        if receipt is None:
            await self._push(tx, now)
            return False
        if digest not in self._mined:
            await self._desk.tiers.expire(tx.user)
            self._mined.add(digest)
        if now.head.number - receipt.block < self._desk.rules.confirmations:
            return False
        if await self._desk.account.block_hash(receipt.block) != receipt.block_hash:
            return False
        self._desk.at("confirmed")
        await self._close(tx, receipt, digest)
        self._desk.at("final")
        self._mined.discard(digest)
        return True

    async def _receipt(self, tx: OpenTx) -> tuple[Receipt | None, str]:
        for attempt in tx.attempts:
            if receipt := await self._desk.account.receipt(attempt.hash):
                return receipt, attempt.hash
        return None, ""

    async def _push(self, tx: OpenTx, now: Now) -> None:
        """Gets on with one that is in no block."""
        base_fee, cap = now.head.base_fee, self._desk.rules.max_fee
        if not tx.attempts:
            await self._desk.sender.attempt(tx, self._desk.contract.address, first(base_fee, cap), self._desk.at)
            return
        late = self._desk.clock.now() * 1000 - tx.attempts[-1].at >= self._desk.rules.patience_s * 1000
        # Those behind it can't be mined before it, whatever they offer.
        more = raised(tx.attempts[-1].fees, base_fee, cap) if late and tx.nonce == now.count else None
        if more is not None:
            await self._desk.sender.attempt(
                tx, self._desk.contract.address, more, lambda step: self._desk.at(f"bump_{step}")
            )
        elif tx.nonce >= now.count:
            await self._desk.sender.again(tx)

    async def _close(self, tx: OpenTx, receipt: Receipt, digest: str) -> None:
        if not receipt.succeeded:
            if await self._desk.journal.close(tx, None):
                log.warning("the contract refused to debit %s tokens of %s: %s", tx.tokens, tx.user, digest[2:])
        else:
            debit = debit_in(receipt.logs, self._desk.contract.address, tx.user)
            if debit is None or debit.tokens != tx.tokens:
                log.error("transaction %s did not debit %s tokens of %s", digest[2:], tx.tokens, tx.user)
                raise JournalLost
            at = int(self._desk.clock.now() * 1000)
            settled = Settlement(digest, receipt.block, tx.tokens, tx.from_cum, tx.to_cum, str(debit.cost), at)
            if await self._desk.journal.close(tx, settled):
                # Without 0x: with it, a hash looks like a private key, which no log may show.
                log.info("settled %s tokens of %s: %s", tx.tokens, tx.user, digest[2:])
        await self._desk.tiers.expire(tx.user)

    def _note_odd(self, nonce: int, head: Head, *, odd: bool) -> None:
        """An endpoint may be late for a moment; what stays odd is so."""
        if not odd:
            self._odd_since.pop(nonce, None)
        elif head.number - self._odd_since.setdefault(nonce, head.number) > self._desk.rules.confirmations:
            self._odd_since.clear()
            raise JournalLost


def _has(transactions: list[OpenTx], nonce: int) -> bool:
    return any(tx.nonce == nonce for tx in transactions)
