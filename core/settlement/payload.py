"""What a transaction of the settler does."""

from __future__ import annotations

from dataclasses import dataclass

from core.chain.payment_contract import call_data

DEBIT_GAS = 160_000  # 55,886 as a rule; 100,000 when it is the treasury's first or ends the user's Pro tier
NOTHING_GAS = 21_000


@dataclass(frozen=True, slots=True)
class Payload:
    """A call without money."""

    to: str  # lower-case address
    data: str  # hex behind 0x
    gas: int


def debit(contract: str, user: str, tokens: int, to_cum: int) -> Payload:
    """
    Debits a user's tokens. Equal arguments make equal bytes: each form of a transaction does the same.

    Behind the arguments stands what he will have paid in all, as 32 bytes: the contract does not read it, and
    whoever looks at the transaction later can tell what it settled.
    """
    return Payload(contract, call_data("useCredits", user, tokens) + to_cum.to_bytes(32).hex(), DEBIT_GAS)


def nothing(address: str) -> Payload:
    """Uses a nonce up: a transfer of nothing to oneself."""
    return Payload(address, "0x", NOTHING_GAS)
