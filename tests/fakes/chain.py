"""A real chain for tests: anvil, with the payment contract on it, gone with the process that started it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.abi import function_abi_to_4byte_selector
from eth_utils.address import to_checksum_address

from bench.ports import free_port
from examples.dev_chain import anvil_binary
from workers import child

CHAIN_ID = 41956
ROOT = Path(__file__).parent.parent.parent
PAYMENT: dict[str, Any] = json.loads((ROOT / "core/chain/InferencePayment.json").read_text())
WALLETS: dict[str, dict[str, Any]] = json.loads((ROOT / "tests/chain/contracts.json").read_text())
PLM = 10**18
TREASURY = "0x" + "0" * 36 + "1001"


class Reverted(Exception):
    """A transaction or call failed; the text is the contract's."""


@dataclass
class TestChain:
    """One chain with one payment contract; `owner` is its owner and, until changed, its gateway."""

    __test__ = False

    port: int = 0
    contract: str = ""
    owner: LocalAccount = field(default_factory=Account.create)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """WebSocket, on the same port."""
        return f"ws://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        self.contract = self.deploy(PAYMENT, self.owner.address, TREASURY)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *options: str) -> None:
        """Starts an empty chain; each transaction is a block of its own. On a restart it has the same port."""
        self.port = self.port or free_port()
        launcher = [sys.executable, "-I", "-S", child.__file__, str(os.getpid())]
        command = [str(anvil_binary()), "--port", str(self.port), "--chain-id", str(CHAIN_ID), *options]
        with tempfile.NamedTemporaryFile() as log:
            self._process = subprocess.Popen([*launcher, *command], stdout=log.file, start_new_session=True)
            deadline = time.monotonic() + 20
            while b"Listening on " not in Path(log.name).read_bytes():
                assert self._process.poll() is None, Path(log.name).read_text()
                assert time.monotonic() < deadline, "anvil did not start"
                time.sleep(0.01)
        self.fund(self.owner.address)

    def stop(self) -> None:
        """Ends it with all that it knows."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    # -- what any wallet can do

    def rpc(self, method: str, *params: Any) -> Any:
        """The result. Raises Reverted."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise Reverted(answer["error"]["message"])
        return answer["result"]

    def fund(self, address: str, plm: int = 1_000_000) -> None:
        """Gives an address so many PLM."""
        self.rpc("anvil_setBalance", address, hex(plm * PLM))

    def account(self, plm: int = 1_000) -> LocalAccount:
        """A new wallet with some PLM."""
        account: LocalAccount = Account.create()
        self.fund(account.address, plm)
        return account

    def submit(
        self, sender: LocalAccount, to: str | None, data: str, value: int = 0, gas_price: int = 2 * 10**9
    ) -> str:
        """Signs and sends a transaction without waiting for it; its hash."""
        nonce = int(self.rpc("eth_getTransactionCount", sender.address, "pending"), 16)
        transaction: dict[str, Any] = {
            "nonce": nonce, "gas": 5_000_000, "gasPrice": gas_price, "chainId": CHAIN_ID, "data": data, "value": value,
        }  # fmt: skip
        if to is not None:
            transaction["to"] = _checksum(to)
        digest: str = self.rpc(
            "eth_sendRawTransaction", sender.sign_transaction(transaction).raw_transaction.to_0x_hex()
        )
        return digest

    def send(self, sender: LocalAccount, to: str | None, data: str, value: int = 0) -> dict[str, Any]:
        """Signs and sends a transaction; its receipt. Raises Reverted with the contract's words."""
        receipt = self._receipt(self.submit(sender, to, data, value))
        if receipt["status"] != "0x1":
            call = {"from": sender.address, "data": data, "value": hex(value)} | ({"to": to} if to else {})
            self.rpc("eth_call", call, "latest")
            raise Reverted("without a word")
        return receipt

    def _receipt(self, transaction: str) -> dict[str, Any]:
        deadline = time.monotonic() + 10
        while True:
            receipt: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", transaction)
            if receipt is not None:
                return receipt
            assert time.monotonic() < deadline, "the transaction is not mined"
            time.sleep(0.005)

    def deploy(self, artefact: dict[str, Any], *args: Any) -> str:
        """The lower-case address of a new contract."""
        constructor: dict[str, Any] = next(
            (entry for entry in artefact["abi"] if entry["type"] == "constructor"), {"inputs": []}
        )
        data = artefact["bytecode"] + encode([given["type"] for given in constructor["inputs"]], args).hex()
        return str(self.send(self.owner, None, data)["contractAddress"]).lower()

    def transact(self, sender: LocalAccount, function: str, *args: Any, value: int = 0) -> dict[str, Any]:
        """A transaction to the payment contract; its receipt. Raises Reverted."""
        return self.send(sender, self.contract, call(function, *args), value)

    def transact_at(self, contract: str, function: str, *args: Any) -> dict[str, Any]:
        """A transaction of the owner to another payment contract of his; its receipt."""
        return self.send(self.owner, contract, _data(PAYMENT, function, *args))

    def read(self, function: str, *args: Any, artefact: dict[str, Any] = PAYMENT, at: str | None = None) -> Any:
        """What a view of a contract returns: one value, or a tuple."""
        answer = self.rpc("eth_call", {"to": at or self.contract, "data": _data(artefact, function, *args)}, "latest")
        outputs = [output["type"] for output in _abi(artefact, function)["outputs"]]
        values = decode(outputs, bytes.fromhex(answer[2:]))
        return values[0] if len(values) == 1 else values

    # -- what users and the gateway do at the payment contract

    def deposit(self, user: LocalAccount, plm: float) -> dict[str, Any]:
        """Pays in."""
        return self.transact(user, "deposit", value=int(plm * PLM))

    def withdraw(self, user: LocalAccount, plm: float) -> dict[str, Any]:
        """Takes out."""
        return self.transact(user, "withdraw", int(plm * PLM))

    def use(self, user: str, tokens: int) -> dict[str, Any]:
        """Debits, as the gateway."""
        return self.transact(self.owner, "useCredits", _checksum(user), tokens)

    def mine(self, blocks: int = 1) -> None:
        """Adds empty blocks."""
        self.rpc("anvil_mine", hex(blocks))


def call(function: str, *args: Any) -> str:
    """The data of a call of the payment contract, as 0x and hex digits."""
    return _data(PAYMENT, function, *args)


def _abi(artefact: dict[str, Any], function: str) -> dict[str, Any]:
    return next(entry for entry in artefact["abi"] if entry.get("name") == function and entry["type"] == "function")


def _data(artefact: dict[str, Any], function: str, *args: Any) -> str:
    abi: Any = _abi(artefact, function)
    selector: bytes = function_abi_to_4byte_selector(abi)
    return "0x" + (selector + encode([given["type"] for given in abi["inputs"]], args)).hex()


def _checksum(address: str) -> str:
    return to_checksum_address(address)
