"""What a transaction offers for its gas (EIP-1559)."""

from __future__ import annotations

from dataclasses import dataclass

GWEI = 10**9
TIP = 1 * GWEI
MOST_RAISES = 10  # to a tip that nobody's transaction has
RAISE = 115  # percent; a node takes a replacement from 110 on, of both fees


@dataclass(frozen=True, slots=True)
class Fees:
    """Wei for one gas."""

    max_fee: int  # all in all
    tip: int  # for whoever makes the block


def first(base_fee: int, cap: int) -> Fees:
    """For a new transaction: good while the base fee doubles, as far as the cap goes."""
    max_fee = min(2 * base_fee + TIP, cap)
    return Fees(max_fee, min(TIP, max_fee))


def raised(last: Fees, base_fee: int, cap: int) -> Fees | None:
    """For the replacement of one that waits too long; None when the cap forbids it."""
    least = _more(last.max_fee)
    if least > cap:
        return None
    max_fee = min(max(least, first(base_fee, cap).max_fee), cap)
    return Fees(max_fee, min(_more(last.tip), max_fee))


def burning(turn: int, cap: int) -> Fees:
    """For one that is to drive out another, whatever that offers within the cap; each turn drives out the former."""
    raises = min(turn, MOST_RAISES)
    max_fee = cap * 5 ** (raises + 1) // 4 ** (raises + 1)
    return Fees(max_fee, min(TIP << raises, max_fee))


def _more(fee: int) -> int:
    return -(-fee * RAISE // 100)
