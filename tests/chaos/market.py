"""What users, the contract's owner and strangers do on the chain, without waiting for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount

from core.chain.debits import TOPIC
from tests.fakes.chain import PLM, TestChain, call

GWEI = 10**9
GAS_PRICE = 200 * GWEI  # more than any settler offers


@dataclass(frozen=True, slots=True)
class Market:
    """`gateway` is the key that debits."""

    chain: TestChain
    gateway: LocalAccount
    users: list[LocalAccount]

    def mine(self, blocks: int = 1) -> None:
        """Blocks, with what waits in the first."""
        self.chain.mine(blocks)

    def deposit(self, user: LocalAccount, plm: int = 150) -> None:
        """A user pays in."""
        self.chain.submit(user, self.chain.contract, call("deposit"), plm * PLM, GAS_PRICE)

    def withdraw(self, user: LocalAccount) -> None:
        """A user takes all out."""
        if balance := self.chain.read("getUserBalance", user.address):
            self.chain.submit(user, self.chain.contract, call("withdraw", balance), 0, GAS_PRICE)

    def set_price(self, wei: int) -> None:
        """The owner changes what 1000 tokens cost."""
        self.chain.submit(self.chain.owner, self.chain.contract, call("setCostPer1000Tokens", wei), 0, GAS_PRICE)

    def foreign(self) -> None:
        """Somebody else uses the gateway's key, and one of its nonces."""
        self.chain.submit(self.gateway, self.gateway.address, "0x", 0, GAS_PRICE)

    def fund_gateway(self, plm: int) -> None:
        """What its account has for gas."""
        self.chain.fund(self.gateway.address, plm)

    def set_base_fee(self, gwei: int) -> None:
        """Of the next block."""
        self.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(gwei * GWEI))

    def reorg(self, depth: int) -> None:
        """The newest blocks are others now, and empty; what was in them is in no pool either."""
        self.chain.rpc("anvil_reorg", depth, [])

    def waiting(self) -> list[dict[str, Any]]:
        """The gateway's transactions in the pool; the lowest nonce first."""
        content = self.chain.rpc("txpool_content")
        mine = self.gateway.address.lower()
        found = [
            tx for kind in content.values() for user, txs in kind.items() if user.lower() == mine for tx in txs.values()
        ]
        return sorted(found, key=lambda tx: int(tx["nonce"], 16))

    def debtor(self, transaction: dict[str, Any]) -> str:
        """Whom a debit is of."""
        return "0x" + str(transaction["input"])[34:74]

    def nonce(self) -> int:
        """How many transactions of the gateway are in blocks."""
        return int(self.chain.rpc("eth_getTransactionCount", self.gateway.address, "latest"), 16)

    def drop(self, transaction: dict[str, Any]) -> None:
        """The pool loses it."""
        self.chain.rpc("anvil_dropTransaction", transaction["hash"])

    def debited(self) -> Counter[str]:
        """Tokens of each user, by the chain's own record."""
        wanted = {"address": self.chain.contract, "topics": [TOPIC], "fromBlock": "0x0", "toBlock": "latest"}
        totals: Counter[str] = Counter()
        for log in self.chain.rpc("eth_getLogs", wanted):
            totals["0x" + log["topics"][1][-40:].lower()] += int(log["data"][2:66], 16)
        return totals
