"""Wallets: addresses, and who signed what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth_account.messages import encode_defunct
from hypothesis import given
from hypothesis import strategies as st

from core import wallet
from core.wallet import BadSignature
from tests.fakes.wallet import CURVE_ORDER, DIALECTS, Wallet, compact, high_s, plain

KNOWN = json.loads((Path(__file__).parent.parent / "vectors" / "personal_sign.json").read_text("utf-8"))
TEXTS = [f"text {number}" for number in range(16)]  # among these, both parities occur

# Checksums that ERC-55 itself lists.
CHECKSUMS = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]

WORD = "11" * 32
NO_SIGNATURES = {
    "empty": "",
    "only 0x": "0x",
    "no 0x": WORD + WORD + "1b",
    "0X": "0X" + WORD + WORD + "1b",
    "odd digits": "0x" + WORD + WORD + "1",
    "63 bytes": "0x" + WORD + WORD[2:],
    "66 bytes": "0x" + WORD + WORD + "1b1b",
    "huge": "0x" + "ab" * 100_000,
    "not hex": "0x" + "zz" * 65,
    "blank inside": "0x" + WORD + " " + WORD[1:] + "1b",
    "newline behind": "0x" + WORD + WORD + "1b\n",
    "digits of another script": "0x" + "١" * 130,
    "lone surrogate": "0x" + "\ud800" * 130,
    "NUL": "0x" + "\0" * 130,
    "v of 2": "0x" + WORD + WORD + "02",
    "v of 26": "0x" + WORD + WORD + "1a",
    "v of 29": "0x" + WORD + WORD + "1d",
    "v of EIP-155": "0x" + WORD + WORD + "25",
    "s of 0": "0x" + WORD + "00" * 32 + "1b",
    "s of the order": "0x" + WORD + f"{CURVE_ORDER:064x}" + "1b",
    "s just over the half": "0x" + WORD + f"{CURVE_ORDER // 2 + 1:064x}" + "1b",
    "all ff": "0x" + "ff" * 65,
    "all ff, compact": "0x" + "ff" * 64,
    "all 0, compact": "0x" + "00" * 64,
}
NOBODYS_SIGNATURES = {
    "r of 0": "0x" + "00" * 32 + WORD + "1b",
    "r of the order": "0x" + f"{CURVE_ORDER:064x}" + WORD + "1b",
    "r over the order": "0x" + "ff" * 32 + WORD + "1c",
    "r of 0, compact": "0x" + "00" * 32 + WORD,
    "r off the curve": "0x" + f"{5:064x}" + WORD + "1b",  # 5³ + 7 is no square in the field
}


class TestAddress:
    @pytest.mark.parametrize(
        "text", [CHECKSUMS[0], CHECKSUMS[1], "0X" + CHECKSUMS[2][2:], "0x" + "aB" * 20, "0x" + "0" * 40]
    )
    def test_has_40_hex_digits_in_any_letter_case(self, text: str) -> None:
        assert wallet.is_address(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "0x",
            "vitalik.eth",
            "ab" * 20,
            "0x" + "a" * 39,
            "0x" + "a" * 41,
            "0x" + "a" * 40 + "\n",
            " 0x" + "a" * 40,
            "0x" + "g" * 40,
            "0x" + "١" * 40,
        ],
    )
    def test_is_nothing_else(self, text: str) -> None:
        assert not wallet.is_address(text)

    @pytest.mark.parametrize("address", CHECKSUMS)
    def test_has_the_checksum_of_the_standard(self, address: str) -> None:
        assert wallet.checksum(address.lower()) == address


class TestRecovery:
    @pytest.mark.parametrize("vector", KNOWN["vectors"], ids=range(len(KNOWN["vectors"])))
    def test_finds_the_signer_of_signatures_that_other_software_made(self, vector: dict[str, str]) -> None:
        signature = wallet.parse_signature(vector["signature"])

        assert wallet.recover_text(vector["text"], signature) == KNOWN["address"].lower()

    @pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
    def test_understands_every_way_to_write_a_signature(self, dialect: Any) -> None:
        signer = Wallet()
        signatures = [signer.signed(encode_defunct(text=text)) for text in TEXTS]
        found = {
            wallet.recover_text(text, wallet.parse_signature(dialect(signed)))
            for text, signed in zip(TEXTS, signatures, strict=True)
        }

        assert {signed.v for signed in signatures} == {27, 28}
        assert found == {signer.address}

    def test_reads_the_compact_form_of_the_standard(self) -> None:
        # The two test cases of ERC-2098: its compact form, and the same in full.
        pairs = {
            "0x68a020a209d3d56c46f38cc50a33f704f4a9a10a59377f8dd762ac66910e9b90"
            "7e865ad05c4035ab5792787d4a0297a43617ae897930a6fe4d822b8faea52064": (
                "0x68a020a209d3d56c46f38cc50a33f704f4a9a10a59377f8dd762ac66910e9b90"
                "7e865ad05c4035ab5792787d4a0297a43617ae897930a6fe4d822b8faea520641b"
            ),
            "0x9328da16089fcba9bececa81663203989f2df5fe1faa6291a45381c81bd17f76"
            "939c6d6b623b42da56557e5e734a43dc83345ddfadec52cbe24d0cc64f550793": (
                "0x9328da16089fcba9bececa81663203989f2df5fe1faa6291a45381c81bd17f76"
                "139c6d6b623b42da56557e5e734a43dc83345ddfadec52cbe24d0cc64f5507931c"
            ),
        }
        for short, full in pairs.items():
            assert wallet.parse_signature(short) == wallet.parse_signature(full) == bytes.fromhex(full[2:])

    def test_finds_somebody_else_when_the_text_differs(self) -> None:
        signature = wallet.parse_signature(Wallet().sign("one text"))

        assert wallet.recover_text("another text", signature) != Wallet().address


class TestBadSignature:
    @pytest.mark.parametrize("text", NO_SIGNATURES.values(), ids=NO_SIGNATURES)
    def test_is_raised_for_what_is_no_signature(self, text: str) -> None:
        with pytest.raises(BadSignature):
            wallet.parse_signature(text)

    @pytest.mark.parametrize("text", NOBODYS_SIGNATURES.values(), ids=NOBODYS_SIGNATURES)
    def test_is_raised_for_what_nobody_can_have_signed(self, text: str) -> None:
        signature = wallet.parse_signature(text)

        with pytest.raises(BadSignature):
            wallet.recover_text("text", signature)

    @pytest.mark.parametrize("text", TEXTS[:4])
    def test_is_raised_for_the_twin_with_a_high_s(self, text: str) -> None:
        signed = Wallet().signed(encode_defunct(text=text))

        assert wallet.parse_signature(plain(signed)) == wallet.parse_signature(compact(signed))
        with pytest.raises(BadSignature):
            wallet.parse_signature(high_s(signed))

    @given(st.one_of(st.text(), st.binary(max_size=80).map(lambda raw: "0x" + raw.hex())))
    def test_is_all_that_a_text_can_cause(self, text: str) -> None:
        try:
            raw = wallet.parse_signature(text)
        except BadSignature:
            return

        assert len(raw) == 65

    @given(
        st.one_of(st.integers(0, 9), st.integers(0, 2**256 - 1), st.integers(CURVE_ORDER - 9, CURVE_ORDER + 9)),
        st.one_of(st.integers(1, 9), st.integers(1, CURVE_ORDER // 2)),
        st.sampled_from([0, 1, 27, 28]),
    )
    def test_is_all_that_a_well_formed_signature_can_cause(self, r: int, s: int, v: int) -> None:
        raw = wallet.parse_signature(f"0x{r:064x}{s:064x}{v:02x}")
        try:
            signer = wallet.recover_text("text", raw)
        except BadSignature:
            return

        assert wallet.is_address(signer)
