"""Receipts: what they say, who gets them, who signs them, and that anybody can check them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import pytest_asyncio
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from core import redis_keys
from core.billing.receipt import NO_TRANSACTION, NOBODY, RECEIPT_TYPE, Seal
from core.billing.receipt_book import Entry, ReceiptBook
from core.billing.receipt_signing import ReceiptSigner
from core.billing.receipts import TOPIC, Receipts
from core.bus import Bus, open_bus
from core.ending import end
from core.errors import PaymentOff, SignerAway, UnknownReceipt
from core.store import Store
from core.wallet import Signer, checksum, hash_typed, recover_typed
from tests.access.gates import ADA, BOB
from tests.billing.accounts import AT, LIFE_S, PRICE, Accounts, request_id, tx
from tests.fakes.chain import CHAIN_ID, TestChain

DEV_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"  # anvil's first account, known to all
GATEWAY = Signer(DEV_KEY)
SEAL = Seal(CHAIN_ID, "0x" + "5b" * 20)
NODE = "0x" + "cd" * 20
ID = request_id(1)


@pytest_asyncio.fixture
async def bus(redis_url: str) -> AsyncIterator[Bus]:
    """The web worker's."""
    async with open_bus(redis_url) as opened:
        yield opened


@pytest.fixture
def book(store: Store) -> ReceiptBook:
    """The book."""
    return ReceiptBook(store, SEAL)


@asynccontextmanager
async def signing(redis_url: str, book: ReceiptBook, signer: Signer = GATEWAY) -> AsyncIterator[None]:
    """A settler's process that signs; it listens already."""
    async with open_bus(redis_url) as its_own, open_bus(redis_url) as probe:
        job = asyncio.create_task(ReceiptSigner(book, its_own, signer).run())
        while await probe.publish(TOPIC, b"") == 0:
            await asyncio.sleep(0.005)
        yield
        await end([job])


def receipts_of(book: ReceiptBook, bus: Bus) -> Receipts:
    """Patient, since a test machine may be busy with other tests."""
    return Receipts(book, bus, patience_s=20)


def signed_by(entry: Entry) -> str:
    """Whose signature it really is."""
    assert entry.signature is not None
    return recover_typed(entry.typed_data, bytes.fromhex(entry.signature[2:]))


@pytest.mark.asyncio
class TestWhatItSays:
    async def test_is_what_was_charged(self, book: ReceiptBook, accounts: Accounts) -> None:
        accounts.charge(ADA.subject, ID, 40, 60, node=NODE)

        entry = await book.look(ADA.subject, ID)

        assert entry is not None
        assert entry.typed_data["message"] == {
            "requestId": ID,
            "user": ADA.subject,
            "node": NODE,
            "model": "a/model",
            "promptTokens": "40",
            "completionTokens": "60",
            "tokens": "100",
            "costWei": str(100 * PRICE // 1000),
            "issuedAt": str(AT // 1000),
            "settlementTx": NO_TRANSACTION,
        }
        assert entry.typed_data["domain"] == {
            "name": "Plumise Inference",
            "version": "1",
            "chainId": CHAIN_ID,
            "verifyingContract": SEAL.contract,
        }

    async def test_a_node_without_a_wallet_is_nobody(self, book: ReceiptBook, accounts: Accounts) -> None:
        accounts.charge(ADA.subject, ID, 1, 1)

        assert (await looked(book)).typed_data["message"]["node"] == NOBODY

    @pytest.mark.parametrize(
        ("settled", "expected"),
        [([10], 0), ([29], 0), ([30], 1), ([10, 19], 0), ([10, 20], 2), ([10, 19, 1], 3), ([30, 5], 1), ([50], 1)],
    )
    async def test_names_the_transaction_that_paid_its_last_token(
        self, book: ReceiptBook, accounts: Accounts, settled: list[int], expected: int
    ) -> None:
        accounts.charge(ADA.subject, request_id(0), 5, 5)
        accounts.charge(ADA.subject, ID, 5, 15)
        accounts.charge(ADA.subject, request_id(2), 5, 15)
        for number, tokens in enumerate(settled, 1):
            accounts.settle(ADA.subject, tokens, tx(number))

        assert (await looked(book)).typed_data["message"]["settlementTx"] == tx(expected)

    async def test_names_no_transaction_when_the_one_that_paid_it_is_forgotten(
        self, book: ReceiptBook, accounts: Accounts
    ) -> None:
        accounts.charge(ADA.subject, ID, 5, 5)
        accounts.settle(ADA.subject, 10, tx(1))
        accounts.settle(ADA.subject, 10, tx(2))

        accounts.redis.zremrangebyrank(redis_keys.settlements(ADA.subject), 0, 0)

        assert (await looked(book)).typed_data["message"]["settlementTx"] == NO_TRANSACTION

    async def test_amounts_beyond_64_bits_are_exact(self, book: ReceiptBook, accounts: Accounts) -> None:
        accounts.charge(ADA.subject, ID, 131_072, 4_096, price=10**22 + 1)

        assert (await looked(book)).typed_data["message"]["costWei"] == str(135_168 * (10**22 + 1) // 1000)


async def looked(book: ReceiptBook) -> Entry:
    """Ada's receipt."""
    entry = await book.look(ADA.subject, ID)
    assert entry is not None
    return entry


@pytest.mark.asyncio
class TestTheSignature:
    async def test_is_over_what_eip_712_says(self, book: ReceiptBook, accounts: Accounts) -> None:
        """The digest by the standard's own formula, with no library for it."""
        accounts.charge(ADA.subject, ID, 40, 60, node=NODE)
        typed_data = (await looked(book)).typed_data
        words = [typed_data["message"][name] for name, _ in RECEIPT_TYPE]
        domain = [keccak(text=text) for text in ("Plumise Inference", "1")] + [CHAIN_ID, SEAL.contract]
        written = (
            "Receipt(string requestId,address user,address node,string model,uint256 promptTokens,"
            "uint256 completionTokens,uint256 tokens,uint256 costWei,uint256 issuedAt,bytes32 settlementTx)"
        )
        head = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
        values = [keccak(text=words[0]), *words[1:3], keccak(text=words[3]), *map(int, words[4:9])]

        separator = keccak(encode(["bytes32"] * 3 + ["uint256", "address"], [keccak(text=head), *domain]))
        struct = keccak(
            encode(
                ["bytes32", "bytes32", "address", "address", "bytes32", *["uint256"] * 5, "bytes32"],
                [keccak(text=written), *values, bytes.fromhex(words[9][2:])],
            )
        )

        assert hash_typed(typed_data) == keccak(b"\x19\x01" + separator + struct)

    async def test_is_the_one_that_a_wallet_of_the_chain_gives(
        self, book: ReceiptBook, accounts: Accounts, chain: TestChain
    ) -> None:
        """Anvil has an implementation of its own."""
        accounts.charge(ADA.subject, ID, 40, 60, node=NODE)
        typed_data = (await looked(book)).typed_data

        theirs = chain.rpc("eth_signTypedData_v4", checksum(GATEWAY.address), typed_data)

        assert GATEWAY.sign_typed(typed_data) == theirs

    async def test_is_of_one_chain_and_contract_only(self, store: Store, accounts: Accounts) -> None:
        accounts.charge(ADA.subject, ID, 1, 1)
        seals = [SEAL, Seal(1, SEAL.contract), Seal(CHAIN_ID, "0x" + "5c" * 20)]

        entries = [await looked(ReceiptBook(store, seal)) for seal in seals]

        assert len({hash_typed(entry.typed_data) for entry in entries}) == 3


@pytest.mark.asyncio
class TestAsking:
    async def test_a_receipt_is_signed_by_the_gateways_wallet(
        self, redis_url: str, book: ReceiptBook, bus: Bus, accounts: Accounts
    ) -> None:
        accounts.charge(ADA.subject, ID, 40, 60)

        async with signing(redis_url, book):
            entry = await receipts_of(book, bus).of(ADA, ID)

        assert signed_by(entry) == entry.signer == GATEWAY.address

    @pytest.mark.parametrize("prefix", ["", "chatcmpl-", "cmpl-"])
    async def test_goes_by_the_id_that_the_client_saw(
        self, redis_url: str, book: ReceiptBook, bus: Bus, accounts: Accounts, prefix: str
    ) -> None:
        accounts.charge(ADA.subject, ID, 40, 60)

        async with signing(redis_url, book):
            entry = await receipts_of(book, bus).of(ADA, prefix + ID)

        assert entry.typed_data["message"]["requestId"] == ID

    async def test_what_is_signed_needs_no_signer_any_more(
        self, redis_url: str, book: ReceiptBook, bus: Bus, accounts: Accounts
    ) -> None:
        accounts.charge(ADA.subject, ID, 40, 60)
        async with signing(redis_url, book):
            first = await receipts_of(book, bus).of(ADA, ID)

        assert await receipts_of(book, bus).of(ADA, ID) == first

    async def test_it_is_signed_anew_once_it_is_settled(
        self, redis_url: str, book: ReceiptBook, bus: Bus, accounts: Accounts
    ) -> None:
        accounts.charge(ADA.subject, ID, 40, 60)
        receipts = receipts_of(book, bus)
        async with signing(redis_url, book):
            before = await receipts.of(ADA, ID)
            accounts.settle(ADA.subject, 100, tx(9))
            after = await receipts.of(ADA, ID)

        assert before.typed_data["message"] | {"settlementTx": tx(9)} == after.typed_data["message"]
        assert signed_by(after) == GATEWAY.address
        assert before.signature != after.signature

    async def test_it_is_signed_anew_when_a_late_count_added_tokens(
        self, redis_url: str, book: ReceiptBook, bus: Bus, accounts: Accounts
    ) -> None:
        accounts.charge(ADA.subject, ID, 40, 60)
        receipts = receipts_of(book, bus)
        async with signing(redis_url, book):
            await receipts.of(ADA, ID)
            accounts.charge(ADA.subject, ID, 40, 70)
            after = await receipts.of(ADA, ID)

        assert (after.typed_data["message"]["tokens"], signed_by(after)) == ("110", GATEWAY.address)

    async def test_several_signers_sign_the_same(
        self, redis_url: str, book: ReceiptBook, bus: Bus, accounts: Accounts
    ) -> None:
        accounts.charge(ADA.subject, ID, 40, 60)

        async with signing(redis_url, book), signing(redis_url, book):
            found = await asyncio.gather(*(receipts_of(book, bus).of(ADA, ID) for _ in range(10)))

        assert len({entry.signature for entry in found}) == 1

    async def test_its_signature_lives_as_long_as_the_charge(
        self, redis_url: str, book: ReceiptBook, bus: Bus, accounts: Accounts
    ) -> None:
        accounts.charge(ADA.subject, ID, 40, 60)
        async with signing(redis_url, book):
            await receipts_of(book, bus).of(ADA, ID)

        left = accounts.redis.ttl(redis_keys.receipt(ID))

        assert LIFE_S - 60 < left <= LIFE_S

    async def test_without_a_signer_is_an_error_that_says_when_to_come_back(
        self, book: ReceiptBook, bus: Bus, accounts: Accounts
    ) -> None:
        accounts.charge(ADA.subject, ID, 40, 60)

        with pytest.raises(SignerAway) as away:
            await Receipts(book, bus, patience_s=0.2).of(ADA, ID)

        assert (away.value.status, away.value.headers) == (503, {"Retry-After": "5"})

    async def test_without_a_contract_is_off(self, bus: Bus) -> None:
        with pytest.raises(PaymentOff):
            await Receipts(None, bus).of(ADA, ID)


@pytest.mark.asyncio
class TestNobody:
    """Is told of an answer that is not his, or is none; and it is the same answer to all of it."""

    @pytest.mark.parametrize(
        "name",
        ["", ID + "0", ID.upper(), f"chatcmpl-cmpl-{ID}", f"x-{ID}", "req_1_" + "g" * 16, ID + "\n", "{plumise}"],
    )
    async def test_a_name_that_is_no_id(self, book: ReceiptBook, bus: Bus, name: str) -> None:
        with pytest.raises(UnknownReceipt):
            await receipts_of(book, bus).of(ADA, name)

    async def test_an_id_that_was_never_given(self, book: ReceiptBook, bus: Bus) -> None:
        with pytest.raises(UnknownReceipt):
            await receipts_of(book, bus).of(ADA, ID)

    async def test_somebody_elses_answer(self, book: ReceiptBook, bus: Bus, accounts: Accounts) -> None:
        accounts.charge(ADA.subject, ID, 40, 60)

        with pytest.raises(UnknownReceipt):
            await receipts_of(book, bus).of(BOB, ID)

    @pytest.mark.parametrize("state", ["reserved", "void"])
    async def test_an_answer_that_is_not_charged(
        self, book: ReceiptBook, bus: Bus, accounts: Accounts, state: str
    ) -> None:
        accounts.charge(ADA.subject, ID, 40, 60, state=state)

        with pytest.raises(UnknownReceipt):
            await receipts_of(book, bus).of(ADA, ID)


@pytest.mark.asyncio
class TestTheSigner:
    async def test_believes_no_message(
        self, redis_url: str, book: ReceiptBook, bus: Bus, accounts: Accounts, caplog: pytest.LogCaptureFixture
    ) -> None:
        accounts.charge(ADA.subject, ID, 40, 60)
        lies = [
            b"",
            b"\xff" * 10,
            msgspec.msgpack.encode([BOB.subject, ID]),
            msgspec.msgpack.encode([ADA.subject, request_id(2)]),
            msgspec.msgpack.encode([ADA.subject]),
            msgspec.msgpack.encode({"user": ADA.subject, "request_id": ID, "tokens": 1}),
        ]

        async with signing(redis_url, book):
            for lie in lies:
                await bus.publish(TOPIC, lie)
            entry = await receipts_of(book, bus).of(ADA, ID)

        assert entry.typed_data["message"]["tokens"] == "100"
        assert accounts.redis.keys(redis_keys.receipt("*")) == [redis_keys.receipt(ID)]
        assert DEV_KEY[2:] not in caplog.text

    async def test_is_not_kept_busy_by_junk(
        self, redis_url: str, book: ReceiptBook, bus: Bus, accounts: Accounts
    ) -> None:
        accounts.charge(ADA.subject, ID, 40, 60)

        async with signing(redis_url, book):
            for _ in range(50):
                for _ in range(100):
                    bus.post(TOPIC, b"junk")
                await bus.publish(TOPIC, b"junk")
            entry = await receipts_of(book, bus).of(ADA, ID)

        assert signed_by(entry) == GATEWAY.address

    async def test_goes_on_after_a_charge_that_makes_no_receipt(
        self, redis_url: str, book: ReceiptBook, bus: Bus, accounts: Accounts, caplog: pytest.LogCaptureFixture
    ) -> None:
        accounts.charge(ADA.subject, ID, 40, 60)
        accounts.charge(ADA.subject, request_id(2), 40, 60, price="much")

        async with signing(redis_url, book):
            await bus.publish(TOPIC, msgspec.msgpack.encode([ADA.subject, request_id(2)]))
            entry = await receipts_of(book, bus).of(ADA, ID)

        assert signed_by(entry) == GATEWAY.address
        assert f"the receipt of {request_id(2)} can't be signed" in caplog.text
