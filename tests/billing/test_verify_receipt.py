"""The program that checks a receipt: what it takes, and that no changed receipt passes."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.wallet import Signer, hash_typed
from examples.verify_receipt import RECEIPT, DoesNotHold, verified
from tests.billing.test_receipts import DEV_KEY

ROOT = Path(__file__).parent.parent.parent
KNOWN = json.loads((ROOT / "tests/vectors/receipt.json").read_text("utf-8"))
GOOD: dict[str, Any] = KNOWN["receipt"]
CONTRACT, GATEWAY = GOOD["typed_data"]["domain"]["verifyingContract"], GOOD["signer"]
OTHER_ADDRESS = "0x" + "99" * 20
CHANGES: dict[str, Any] = {
    "requestId": "req_1800000000000_0123456789abcdee",
    "user": OTHER_ADDRESS,
    "node": OTHER_ADDRESS,
    "model": "meta-llama/Llama-3.1-70B",
    "promptTokens": "13",
    "completionTokens": "29",
    "tokens": "41",
    "costWei": "1",
    "issuedAt": "1800000001",
    "settlementTx": "0x" + "00" * 32,
}


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The program as users start it."""
    command = [sys.executable, "-m", "examples.verify_receipt", *arguments]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def changed(**fields: Any) -> dict[str, Any]:
    """The good receipt with other words in its message."""
    receipt = copy.deepcopy(GOOD)
    receipt["typed_data"]["message"] |= fields
    return receipt


class TestTheKnownReceipt:
    def test_is_what_the_gateway_signs(self) -> None:
        assert "0x" + hash_typed(GOOD["typed_data"]).hex() == KNOWN["digest"]
        assert Signer(DEV_KEY).sign_typed(GOOD["typed_data"]) == GOOD["signature"]

    def test_holds(self) -> None:
        facts = verified(json.dumps(GOOD), CONTRACT, GATEWAY)

        assert facts == GOOD["typed_data"]["message"] | {"chainId": 41956, "contract": CONTRACT, "signer": GATEWAY}


class TestAChangedReceipt:
    @pytest.mark.parametrize("field", RECEIPT)
    def test_does_not_hold_whichever_field_it_is(self, field: str) -> None:
        with pytest.raises(DoesNotHold):
            verified(json.dumps(changed(**{field: CHANGES[field]})))

    @pytest.mark.parametrize(("field", "value"), [("chainId", 1), ("verifyingContract", OTHER_ADDRESS)])
    def test_does_not_hold_for_another_chain_or_contract(self, field: str, value: Any) -> None:
        receipt = copy.deepcopy(GOOD)
        receipt["typed_data"]["domain"][field] = value

        with pytest.raises(DoesNotHold):
            verified(json.dumps(receipt))

    def test_does_not_hold_with_a_signature_over_something_else(self) -> None:
        """One that the gateway's wallet really made, in a file whose types hide what it is over."""
        receipt = copy.deepcopy(GOOD)
        receipt["typed_data"]["types"]["Receipt"] = [{"name": "requestId", "type": "string"}]
        receipt["signature"] = Signer(DEV_KEY).sign_typed(receipt["typed_data"])

        with pytest.raises(DoesNotHold):
            verified(json.dumps(receipt))

    def test_of_somebody_else_holds_only_for_who_does_not_ask(self) -> None:
        other = Signer("0x" + "11" * 32)
        receipt = GOOD | {"signature": other.sign_typed(GOOD["typed_data"]), "signer": other.address}

        assert verified(json.dumps(receipt))["signer"] == other.address
        with pytest.raises(DoesNotHold, match="not by the gateway"):
            verified(json.dumps(receipt), gateway=GATEWAY)
        with pytest.raises(DoesNotHold, match="not for"):
            verified(json.dumps(receipt), contract=OTHER_ADDRESS)

    @pytest.mark.parametrize(
        "text", ["", "null", "[]", "{}", '{"typed_data": {}}', json.dumps(GOOD | {"signature": "0x12"}), "\ud800"]
    )
    def test_that_is_none_does_not_hold(self, text: str) -> None:
        with pytest.raises(DoesNotHold):
            verified(text)


class TestTheProgram:
    def test_says_what_the_receipt_says(self) -> None:
        ended = run("--contract", CONTRACT, "--gateway", GATEWAY.upper().replace("0X", "0x"), stdin=json.dumps(GOOD))

        assert ended.returncode == 0
        assert "costWei          42000000000000\n" in ended.stdout
        assert ended.stdout.endswith("The receipt holds.\n")

    def test_ends_with_1_when_it_does_not_hold(self, tmp_path: Path) -> None:
        file = tmp_path / "receipt.json"
        file.write_text(json.dumps(changed(tokens="1")))

        ended = run(str(file))

        assert (ended.returncode, ended.stdout) == (1, "")
        assert "does not hold" in ended.stderr
        assert "Traceback" not in ended.stderr
