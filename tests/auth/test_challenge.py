"""The three texts of a challenge."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from eth_keys.datatypes import PrivateKey
from eth_utils.crypto import keccak

from core.auth.challenge import Challenge
from core.wallet import parse_signature
from tests.fakes.wallet import Wallet

WALLET = Wallet()
CHALLENGE = Challenge(
    address=WALLET.address,
    nonce="0123456789abcdef" * 4,
    origin="https://chat.plumise.com:8443",
    issued_ms=1_800_000_000_007,
    chain_id=41956,
)
DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId)"
SIGN_IN_TYPE = "SignIn(string statement,address address,string uri,string nonce,string issuedAt)"


def hashed(text: str) -> bytes:
    return keccak(text.encode())


def digest_by_hand() -> bytes:
    """The EIP-712 digest, put together from the standard's definition alone."""
    domain = [hashed(DOMAIN_TYPE), hashed("Plumise Inference API"), hashed("1"), (41956).to_bytes(32, "big")]
    message = [
        hashed(SIGN_IN_TYPE),
        hashed("Sign this message to authenticate with Plumise Inference API."),
        bytes(12) + bytes.fromhex(WALLET.address[2:]),
        hashed("https://chat.plumise.com:8443"),
        hashed("0123456789abcdef" * 4),
        hashed("2027-01-15T08:00:00.007Z"),
    ]
    return keccak(b"\x19\x01" + keccak(b"".join(domain)) + keccak(b"".join(message)))


class TestMessage:
    def test_is_the_former_services_byte_for_byte(self) -> None:
        nonce = "0" * 64

        assert replace(CHALLENGE, nonce=nonce).message.encode() == (
            b"Sign this message to authenticate with Plumise Inference API.\n\nNonce: " + nonce.encode()
        )


class TestTypedData:
    def test_signs_the_digest_that_the_standard_defines(self) -> None:
        signature = PrivateKey(b"\xab" * 32).sign_msg_hash(digest_by_hand())

        assert CHALLENGE.signed_by_address(parse_signature("0x" + signature.to_bytes().hex()))

    def test_is_complete_plain_json(self) -> None:
        typed_data = json.loads(json.dumps(CHALLENGE.typed_data))

        assert typed_data == CHALLENGE.typed_data
        assert typed_data.keys() == {"types", "primaryType", "domain", "message"}
        assert typed_data["domain"] == {"name": "Plumise Inference API", "version": "1", "chainId": 41956}
        for kind, values in (("EIP712Domain", "domain"), (typed_data["primaryType"], "message")):
            assert [field["name"] for field in typed_data["types"][kind]] == list(typed_data[values])


class TestSiwe:
    def test_follows_the_grammar_of_the_standard(self) -> None:
        assert CHALLENGE.siwe == (
            "chat.plumise.com:8443 wants you to sign in with your Ethereum account:\n"
            "0xe239cdc5fbe977a8a141B72194D3CF8c41bC5BC6\n"
            "\n"
            "Sign this message to authenticate with Plumise Inference API.\n"
            "\n"
            "URI: https://chat.plumise.com:8443\n"
            "Version: 1\n"
            "Chain ID: 41956\n"
            f"Nonce: {CHALLENGE.nonce}\n"
            "Issued At: 2027-01-15T08:00:00.007Z"
        )


OTHERS: dict[str, dict[str, Any]] = {
    "nonce": {"nonce": "f" * 64},
    "origin": {"origin": "https://evil.example"},
    "time": {"issued_ms": CHALLENGE.issued_ms + 1},
    "chain": {"chain_id": 1},
    "address": {"address": Wallet(b"\x01" * 32).address},
}


class TestSignature:
    @pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
    def test_over_another_domain_time_chain_nonce_or_address_is_none(self, other: dict[str, Any]) -> None:
        foreign = replace(CHALLENGE, **other)
        signatures = [WALLET.sign(foreign.siwe), WALLET.sign_typed(foreign.typed_data)]
        if "nonce" in other:
            signatures.append(WALLET.sign(foreign.message))

        assert not any(CHALLENGE.signed_by_address(parse_signature(signature)) for signature in signatures)

    def test_over_the_bare_nonce_is_none(self) -> None:
        assert not CHALLENGE.signed_by_address(parse_signature(WALLET.sign(CHALLENGE.nonce)))

    def test_of_another_wallet_is_none(self) -> None:
        other = Wallet(b"\x01" * 32)

        assert not CHALLENGE.signed_by_address(parse_signature(other.sign(CHALLENGE.message)))
