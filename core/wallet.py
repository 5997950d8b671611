"""Ethereum wallets: what an address looks like, who signed a text or typed data, and signing them oneself."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any

import eth_keys.exceptions
from eth_account import Account
from eth_account.messages import SignableMessage, encode_defunct, encode_typed_data
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

# A library of eth_account's (py_ecc) raises Python's limit to 100,000 for the whole process: a body of so many nested
# lists would then overflow the C stack of a JSON parser and kill the worker, instead of being refused.
sys.setrecursionlimit(1_000)

ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{40}")
SIGNATURE = re.compile(r"0x(?:[0-9a-fA-F]{128}|[0-9a-fA-F]{130})")
CONTRACT_SIGNATURE = re.compile(r"0x(?:[0-9a-fA-F]{2}){1,8192}")
CURVE_ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141  # of secp256k1
V = {0: 27, 1: 28, 27: 27, 28: 28}
Y_PARITY = 1 << 255


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that carries no money (EIP-1559). Fees are wei for one gas."""

    chain_id: int
    nonce: int
    to: str  # lower-case address
    data: str  # hex behind 0x
    gas: int
    max_fee: int
    tip: int


class Signer:
    """A wallet of our own, from its private key as hex behind 0x; the key shows in no repr."""

    def __init__(self, private_key: str) -> None:
        self._account = Account.from_key(private_key)
        self.address: str = self._account.address.lower()

    def __repr__(self) -> str:
        return f"Signer({self.address})"

    def sign_text(self, text: str) -> str:
        """The EIP-191 signature (personal_sign): 65 bytes with a v of 27 or 28, as hex behind 0x."""
        return self._sign(encode_defunct(text=text))

    def sign_typed(self, typed_data: dict[str, Any]) -> str:
        """The signature of complete EIP-712 JSON, in the same form; the same data is signed the same each time."""
        return self._sign(encode_typed_data(full_message=typed_data))

    def sign_transaction(self, transaction: Transaction) -> tuple[str, str]:
        """The raw transaction and its hash, each as hex behind 0x; the same one is signed the same each time."""
        signed = self._account.sign_transaction(
            {
                "type": 2,
                "chainId": transaction.chain_id,
                "nonce": transaction.nonce,
                "to": checksum(transaction.to),
                "value": 0,
                "data": transaction.data,
                "gas": transaction.gas,
                "maxFeePerGas": transaction.max_fee,
                "maxPriorityFeePerGas": transaction.tip,
            }
        )
        return signed.raw_transaction.to_0x_hex(), signed.hash.to_0x_hex()

    def _sign(self, message: SignableMessage) -> str:
        return "0x" + bytes(self._account.sign_message(message).signature).hex()


class BadSignature(Exception):
    """The text is no signature, or nobody can have made it."""


def is_address(text: str) -> bool:
    """Whether this is 0x or 0X and 40 hex digits. Its letter case, a checksum (ERC-55), is not looked at."""
    return ADDRESS.fullmatch(text) is not None


def checksum(address: str) -> str:
    """The address in the mixed case of ERC-55."""
    return to_checksum_address(address)


def parse_signature(text: str) -> bytes:
    """
    A signature as its 65 bytes r, s, v, with a v of 27 or 28.

    Takes 65 bytes with a v of 0, 1, 27 or 28, or the 64 bytes of ERC-2098, as hex behind 0x. Raises BadSignature,
    also for the upper half of s (EIP-2): each signature would have a twin there.
    """
    if not SIGNATURE.fullmatch(text):
        raise BadSignature
    raw = bytes.fromhex(text[2:])
    r, s = raw[:32], int.from_bytes(raw[32:64])
    v = V.get(raw[64]) if len(raw) == 65 else 27 + s // Y_PARITY
    if len(raw) == 64:
        s %= Y_PARITY
    if v is None or not 0 < s <= CURVE_ORDER // 2:
        raise BadSignature
    return r + s.to_bytes(32) + bytes([v])


def parse_contract_signature(text: str) -> bytes | None:
    """A contract wallet's signature, any bytes as hex behind 0x; None when it is none, or larger than 8 KiB."""
    return bytes.fromhex(text[2:]) if CONTRACT_SIGNATURE.fullmatch(text) else None


def recover_text(text: str, signature: bytes) -> str:
    """The lower-case address that signed a text (EIP-191, personal_sign). Raises BadSignature."""
    return _recover(encode_defunct(text=text), signature)


def recover_typed(typed_data: dict[str, Any], signature: bytes) -> str:
    """The lower-case address that signed complete EIP-712 JSON. Raises BadSignature."""
    return _recover(encode_typed_data(full_message=typed_data), signature)


def hash_text(text: str) -> bytes:
    """The 32 bytes that are signed for a text (EIP-191)."""
    return _hash(encode_defunct(text=text))


def hash_typed(typed_data: dict[str, Any]) -> bytes:
    """The 32 bytes that are signed for complete EIP-712 JSON."""
    return _hash(encode_typed_data(full_message=typed_data))


def _hash(message: SignableMessage) -> bytes:
    return keccak(b"\x19" + message.version + message.header + message.body)


def _recover(message: SignableMessage, signature: bytes) -> str:
    try:
        signer: str = Account.recover_message(message, signature=signature)
    except (eth_keys.exceptions.BadSignature, ValidationError) as problem:
        raise BadSignature from problem
    return signer.lower()
