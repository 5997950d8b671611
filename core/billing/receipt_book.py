"""The receipts as Redis has them: what was charged, what of it is settled, and the signatures that were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from core import redis_keys
from core.billing.receipt import NO_TRANSACTION, NOBODY, Receipt, Seal
from core.chain.amounts import cost
from core.settlement.journal import Settlement
from core.store import Store
from core.wallet import hash_typed


@dataclass(frozen=True, slots=True)
class Entry:
    """A receipt as it reads now, and its signature if it was signed just so."""

    request_id: str
    typed_data: dict[str, Any]  # complete EIP-712 JSON
    signature: str | None  # 65 bytes as hex behind 0x
    signer: str | None  # lower-case address


class ReceiptBook:
    """All methods raise StoreUnavailable. Users are lower-case addresses."""

    def __init__(self, store: Store, seal: Seal) -> None:
        self._store = store
        self._seal = seal

    async def look(self, user: str, request_id: str) -> Entry | None:
        """The user's own receipt; None when nobody is charged under that id, or somebody else."""
        keys = [redis_keys.charge(request_id), redis_keys.settlements(user), redis_keys.receipt(request_id)]
        found = await self._store.run("receipt_look", keys, [user])
        if found is None:
            return None
        charge, settlement, signed = found
        typed_data = _receipt(request_id, _fields(charge), settlement).typed_data(self._seal)
        kept = _fields(signed)
        if kept.get("digest") != _digest(typed_data):  # what was signed before it was settled is another receipt
            kept = {}
        return Entry(request_id, typed_data, kept.get("signature"), kept.get("signer"))

    async def keep(self, entry: Entry, signature: str, signer: str) -> None:
        """Adds the signature to a receipt."""
        keys = [redis_keys.charge(entry.request_id), redis_keys.receipt(entry.request_id)]
        await self._store.run("receipt_keep", keys, [_digest(entry.typed_data), signature, signer])


def _digest(typed_data: dict[str, Any]) -> str:
    return hash_typed(typed_data).hex()


def _fields(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _receipt(request_id: str, charge: dict[str, str], settlement: str) -> Receipt:
    tokens = int(charge["tokens"])
    return Receipt(
        request_id=request_id,
        user=charge["user"],
        node=charge.get("node") or NOBODY,
        model=charge["model"],
        prompt_tokens=int(charge["prompt_tokens"]),
        completion_tokens=int(charge["completion_tokens"]),
        tokens=tokens,
        cost=cost(tokens, int(charge["price"])),
        issued_at=int(charge["at"]) // 1000,
        settlement=msgspec.json.decode(settlement, type=Settlement).tx if settlement else NO_TRANSACTION,
    )
