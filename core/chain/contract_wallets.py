"""Wallets that are contracts: what they say of a signature, deployed (EIP-1271) or not yet (ERC-6492)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from eth_abi.abi import encode

from core.chain.chain import Chain
from core.chain.rpc import CallFailed
from core.errors import ChainUnavailable

# The contract's constructor is the check: it runs in a call to no address, and nothing of it stays on the chain.
CODE: str = json.loads((Path(__file__).parent / "SignatureCheck.json").read_text("utf-8"))["bytecode"]
GAS = hex(10_000_000)  # for up to five open nonces of three forms each
AT_ONCE = 2  # strangers can have this asked, so it must not keep the tiers waiting


class ContractWallets:
    """Asks the chain, with limits on gas and time: the wallet's code is a stranger's."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._places = asyncio.Semaphore(AT_ONCE)

    async def signed(self, address: str, hashes: Sequence[bytes], signature: bytes) -> int | None:
        """The index of the first of these 32-byte hashes that the wallet signed, or None. Raises ChainUnavailable."""
        call = encode(["address", "bytes32[]", "bytes"], [address, list(hashes), signature])
        async with self._places:
            try:
                answer = await self._chain.eth_call({"data": CODE + call.hex(), "gas": GAS})
            except CallFailed:
                return None
        if len(answer) != 32:
            raise ChainUnavailable
        found = int.from_bytes(answer)
        return found - 1 if 0 < found <= len(hashes) else None
