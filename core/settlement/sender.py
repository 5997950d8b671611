"""How a transaction goes out: signed, written down, sent, in this order."""

from __future__ import annotations

from core.chain.account import Account
from core.clock import Clock
from core.settlement.fees import Fees
from core.settlement.journal import Attempt, Journal, OpenTx
from core.settlement.payload import Payload, debit
from core.steps import Step
from core.wallet import Signer, Transaction


class Sender:
    """Signs for one account. Methods raise StoreUnavailable; what the chain says to a transaction does not count."""

    def __init__(self, signer: Signer, account: Account, chain_id: int, journal: Journal, clock: Clock) -> None:
        self._signer = signer
        self._account = account
        self._chain_id = chain_id
        self._journal = journal
        self._clock = clock

    async def attempt(self, tx: OpenTx, contract: str, fees: Fees, at: Step) -> None:
        """Makes one more form of a planned transaction, unless another settler did so before; `at` hears each step."""
        raw, digest = self._sign(tx.nonce, debit(contract, tx.user, tx.tokens, tx.to_cum), fees)
        at("signed")
        attempt = Attempt(raw, digest, fees.max_fee, fees.tip, int(self._clock.now() * 1000))
        if await self._journal.append(tx, attempt):
            at("journaled")
            await self._account.send(raw)
            at("sent")

    async def again(self, tx: OpenTx) -> None:
        """Sends the latest form once more: a node may have lost it, or never got it."""
        await self._account.send(tx.attempts[-1].raw)

    async def burn(self, nonce: int, payload: Payload, fees: Fees) -> None:
        """Sends what nobody has to remember, since it moves nothing."""
        raw, _ = self._sign(nonce, payload, fees)
        await self._account.send(raw)

    def _sign(self, nonce: int, payload: Payload, fees: Fees) -> tuple[str, str]:
        return self._signer.sign_transaction(
            Transaction(self._chain_id, nonce, payload.to, payload.data, payload.gas, fees.max_fee, fees.tip)
        )
