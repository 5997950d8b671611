"""Amounts of PLM: people write exact decimals, the chain counts wei (10^18 to one PLM)."""

from __future__ import annotations

import re

WEI = 10**18
MOST = 2**256 - 1  # wei
DECIMAL = re.compile(r"[0-9]{1,60}(?:\.[0-9]{1,18})?", re.ASCII)


def plm(wei: int) -> str:
    """The exact amount without trailing zeros: 1.5, 100, 0.000000000000000001."""
    whole, rest = divmod(wei, WEI)
    return f"{whole}.{rest:018}".rstrip("0").rstrip(".")


def cost(tokens: int, price: int) -> int:
    """What so many cost, in wei; `price` is that of 1,000. The contract rounds down as well."""
    return tokens * price // 1000


def affordable(balance: int, price: int) -> int:
    """How many tokens so much wei pays."""
    return balance * 1000 // price


def wei(text: str) -> int | None:
    """The same back; None when this is no decimal of at most 18 places, or more than there can be."""
    if not DECIMAL.fullmatch(text):
        return None
    whole, _, rest = text.partition(".")
    amount = int(whole) * WEI + int(rest.ljust(18, "0"))
    return amount if amount <= MOST else None
