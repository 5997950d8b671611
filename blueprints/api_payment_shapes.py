"""What the payment doors read and write, as typed shapes for the API document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from blueprints.api_shapes import SOURCE, Address, Count, Moment, Plm, Wei
from core.access.tiers import Source
from core.catalog import Tier

Hash = Annotated[str, Meta(pattern="^0x[0-9a-f]{64}$")]
RequestIds = Annotated[list[str], Meta(description="The answers that it paid for, the newest first, at most 1,000.")]


class DepositRequest(msgspec.Struct, forbid_unknown_fields=True):
    """How much is to be paid in."""

    amount: Annotated[Plm, Meta(description="In PLM, more than 0.")]


class PaymentBalance(msgspec.Struct):
    """The wallet's deposit at the payment contract."""

    address: Annotated[Address, Meta(description="In lower case.")]
    tier: Tier
    source: Annotated[Source, Meta(description=SOURCE)]
    balance_wei: Annotated[Wei, Meta(description="What the contract says.")]
    balance_plm: Plm
    outstanding_tokens: Annotated[Count, Meta(description="Served, and not debited on the chain for good.")]
    outstanding_plm: Plm
    reserved_tokens: Annotated[Count, Meta(description="Held for requests under way, as if they took the most.")]
    reserved_plm: Plm
    left_wei: Annotated[Wei, Meta(description="The balance without what is outstanding and reserved.")]
    left_plm: Plm
    debt: Annotated[bool, Meta(description="Whether the deposit could not pay what was served: then pay in first.")]
    cost_per_1000_tokens_wei: Wei
    cost_per_1000_tokens_plm: Plm


class Transaction(msgspec.Struct, rename="camel"):
    """As eth_sendTransaction takes it; quantities are hex."""

    to: Address
    data: str
    value: str
    chain_id: str


class Deposit(msgspec.Struct):
    """A transaction for the wallet to sign, and what it leads to."""

    contract: Address
    chain_id: int
    abi: Annotated[list[dict[str, Any]], Meta(description="The ABI of `deposit()`.")]
    transaction: Transaction
    amount_wei: Wei
    amount_plm: Plm
    missing_for_pro_plm: Annotated[Plm, Meta(description="What is missing for Pro before this deposit.")]
    pro_afterwards: bool
    note: str


class Settlement(msgspec.Struct):
    """One final transaction that debited the deposit."""

    tx: Hash
    block: Count
    tokens: Count
    cost_wei: Annotated[Wei, Meta(description="At the price of the contract when it was debited.")]
    cost_plm: Plm
    at: Annotated[Moment, Meta(description="When it was seen to be final.")]
    requests: RequestIds


class Unsettled(msgspec.Struct):
    """What was served and is not debited yet."""

    tokens: Count
    requests: Annotated[list[str], Meta(description="Its answers, the newest first, at most 1,000.")]


class History(msgspec.Struct):
    """Settlements, the newest first."""

    settlements: list[Settlement]
    next: Annotated[Count | None, Meta(description="`before` of the next page; null on the last one.")]
    unsettled: Unsettled


class ReceiptField(msgspec.Struct):
    """One field of an EIP-712 type."""

    name: str
    type: str


class ReceiptTypes(msgspec.Struct, rename={"domain": "EIP712Domain", "receipt": "Receipt"}):
    """The EIP-712 types."""

    domain: list[ReceiptField]
    receipt: list[ReceiptField]


class ReceiptDomain(msgspec.Struct, rename="camel"):
    """The contract and chain that the receipt is for."""

    name: Literal["Plumise Inference"]
    version: Literal["1"]
    chain_id: int
    verifying_contract: Address


class Receipt(msgspec.Struct, rename="camel"):
    """What was charged for one answer."""

    request_id: str
    user: Address
    node: Annotated[Address, Meta(description="The wallet of the node that answered; zero when it is not known.")]
    model: str
    prompt_tokens: Wei
    completion_tokens: Wei
    tokens: Annotated[Wei, Meta(description="What is debited.")]
    cost_wei: Annotated[Wei, Meta(description="At the price that the request was let in with.")]
    issued_at: Annotated[Wei, Meta(description="Unix time in seconds at which it was charged.")]
    settlement_tx: Annotated[Hash, Meta(description="The final transaction that debited it; zero until then.")]


class ReceiptData(msgspec.Struct, rename="camel"):
    """A receipt as EIP-712 typed data."""

    types: ReceiptTypes
    primary_type: Literal["Receipt"]
    domain: ReceiptDomain
    message: Receipt


class SignedReceipt(msgspec.Struct):
    """A receipt that anybody can check."""

    typed_data: ReceiptData
    signature: Annotated[str, Meta(pattern="^0x[0-9a-f]{130}$", description="Over the typed data, by `signer`.")]
    signer: Annotated[Address, Meta(description="The gateway's wallet: `gateway()` of the contract.")]


class CreditDetails(msgspec.Struct):
    """Why the deposit does not pay for a request."""

    required_plm: Annotated[Plm, Meta(description="What the request costs at most.")]
    available_plm: Annotated[Plm, Meta(description="What the deposit has left for it.")]
