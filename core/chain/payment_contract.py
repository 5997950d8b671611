"""The payment contract, as far as the gateway reads it: one `eth_call` for each question."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector

from core.chain.chain import Chain
from core.chain.rpc import CallFailed
from core.errors import ChainUnavailable

ABI: list[Any] = json.loads((Path(__file__).parent / "InferencePayment.json").read_text("utf-8"))["abi"]
FUNCTIONS: dict[str, Any] = {entry["name"]: entry for entry in ABI if entry["type"] == "function"}
EVENTS: dict[str, Any] = {entry["name"]: entry for entry in ABI if entry["type"] == "event"}
# The events after which a user's tier or balance is another one; the user is their first topic.
USER_EVENTS = ("Deposited", "Withdrawn", "TierChanged", "CreditUsed")
PRO = 1

log = logging.getLogger(__name__)


def event_topic(name: str) -> str:
    """The first topic of an event's logs, as hex behind 0x."""
    return "0x" + event_abi_to_log_topic(EVENTS[name]).hex()


USER_TOPICS = [event_topic(name) for name in USER_EVENTS]


class NoContract(ChainUnavailable):
    """There is nothing at the address that is said to be the payment contract's."""


@dataclass(frozen=True, slots=True)
class Credit:
    """What the contract knows of a user. Amounts are wei."""

    balance: int
    used: int  # ever
    last_deposit: int  # unix seconds; 0 for never
    is_pro: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """What Pro asks for. Amounts are wei."""

    cost_per_1000_tokens: int
    pro_minimum: int


class PaymentContract:
    """
    The contract at a lower-case address. Every method raises ChainUnavailable; where there is no contract, NoContract.

    `at` is the block at which it is asked, by default the newest.
    """

    def __init__(self, chain: Chain, address: str) -> None:
        self._chain = chain
        self.address = address
        self._is_missing = False

    async def credit(self, user: str, at: int | None = None) -> Credit:
        """Balance and tier of a lower-case address, in one call."""
        balance, used, last_deposit, tier = await self._ask("getUserCredit", user, at=at)
        return Credit(balance, used, last_deposit, tier == PRO)

    async def terms(self) -> Terms:
        """Price and minimum."""
        (cost,), (minimum,) = await self._ask("costPer1000Tokens"), await self._ask("PRO_TIER_MINIMUM")
        return Terms(cost, minimum)

    async def gateway(self, at: int | None = None) -> str:
        """The lower-case address that may debit."""
        (address,) = await self._ask("gateway", at=at)
        return str(address)

    async def objection(self, gateway: str, data: str, gas: int) -> str | None:
        """What the contract would say against this call by its gateway, in lower case; None when it would do it."""
        call = {"from": gateway, "to": self.address, "data": data, "gas": hex(gas)}
        try:
            await self._chain.eth_call(call)
        except CallFailed as refused:
            return refused.reason or "refused"
        return None

    async def _ask(self, function: str, *args: Any, at: int | None = None) -> tuple[Any, ...]:
        data = call_data(function, *args)
        try:
            answer = await self._chain.eth_call({"to": self.address, "data": data}, at)
            if not answer:
                raise self._missing(at)
            self._is_missing = False
            return decode([output["type"] for output in FUNCTIONS[function]["outputs"]], answer)
        except (CallFailed, DecodingError):
            raise ChainUnavailable from None

    def _missing(self, at: int | None) -> ChainUnavailable:
        """What an empty answer means: an address without code answers so to everything."""
        if at is not None:  # maybe it was not there yet
            return ChainUnavailable()
        if not self._is_missing:
            log.error("INFERENCE_PAYMENT_ADDRESS: there is no contract at %s", self.address)
        self._is_missing = True
        return NoContract()


def call_data(function: str, *args: Any) -> str:
    """The data of a call, as 0x and hex digits."""
    abi = FUNCTIONS[function]
    selector: bytes = function_abi_to_4byte_selector(abi)
    return "0x" + (selector + encode([given["type"] for given in abi["inputs"]], args)).hex()
