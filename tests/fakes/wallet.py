"""A wallet that signs as the wallets of this world do, in all their dialects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from eth_account import Account
from eth_account.datastructures import SignedMessage
from eth_account.messages import SignableMessage, encode_defunct, encode_typed_data

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class Wallet:
    """One key."""

    def __init__(self, key: str | bytes = b"\xab" * 32) -> None:
        self._account = Account.from_key(key)
        self.checksummed: str = self._account.address
        self.address = self.checksummed.lower()

    def sign(self, text: str) -> str:
        """personal_sign: 65 bytes, v of 27 or 28."""
        return plain(self.signed(encode_defunct(text=text)))

    def sign_typed(self, typed_data: dict[str, Any]) -> str:
        """eth_signTypedData_v4."""
        return plain(self.signed(encode_typed_data(full_message=typed_data)))

    def signed(self, message: SignableMessage) -> SignedMessage:
        """The signature in its parts."""
        return cast("SignedMessage", self._account.sign_message(message))


def plain(signed: SignedMessage) -> str:
    """r, s, v with v of 27 or 28."""
    return signed.signature.to_0x_hex()


def with_parity(signed: SignedMessage) -> str:
    """r, s, v with v of 0 or 1, as some hardware wallets do."""
    return plain(signed)[:-2] + f"{signed.v - 27:02x}"


def compact(signed: SignedMessage) -> str:
    """ERC-2098: 64 bytes, the parity in the top bit of s."""
    return f"0x{signed.r:064x}{signed.s | (signed.v - 27) << 255:064x}"


def high_s(signed: SignedMessage) -> str:
    """The twin that EIP-2 forbids."""
    return f"0x{signed.r:064x}{CURVE_ORDER - signed.s:064x}{55 - signed.v:02x}"


DIALECTS: dict[str, Callable[[SignedMessage], str]] = {
    "v 27/28": plain,
    "v 0/1": with_parity,
    "compact": compact,
    "upper-case digits": lambda signed: "0x" + plain(signed)[2:].upper(),
}
