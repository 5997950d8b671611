"""This repository's gateway as a peer: for Free wallets, and for Pro wallets that pay on a chain."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.peer import CHAT, Peer, status, wait
from bench.ports import free_port
from bench.processes import LOAD_CORE, PEER_CORE, started
from examples import dev_chain
from examples.deposit import WEI, me, pay_in
from examples.sign_in import sign_in, wallet

WALLETS = 32  # as many as there may be, so that no one's window of requests grows long
PLM = "10000"  # each Pro wallet's deposit
UNSET = ("REDIS_URL", "ORACLE_API_URL", "PETALS_API_URL", "MODELS_FILE", "INFERENCE_PAYMENT_ADDRESS", "PRIVATE_KEY")


@contextmanager
def gateway(
    nodes: Sequence[int],
    folder: Path,
    workers: int = 1,
    redis_url: str = "",
    cores: Sequence[int] = (PEER_CORE,),
    settings: Mapping[str, str] = {},
) -> Iterator[Peer]:
    """The gateway with all that it does for Free wallets, and a Redis of its own unless one is given."""
    with served(nodes, folder, workers, redis_url, cores, settings) as peer:
        tokens = [sign_in(peer.url, wallet(None)) for _ in range(WALLETS)]
        wait(lambda: status(peer.url + CHAT, tokens[0]) == 200, folder / "gateway.log")
        yield Peer(peer.pid, peer.port, tokens)


@contextmanager
def paying(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
    """The gateway for Pro wallets: each answer is held out of a deposit, charged, and debited on a chain beside it."""
    port = free_port()
    chain = f"http://127.0.0.1:{port}"
    command = [str(dev_chain.anvil_binary()), "--port", str(port), "--chain-id", str(dev_chain.CHAIN_ID)]
    with started([*command, "--block-time", "1"], (LOAD_CORE,), folder / "chain.log"):
        wait(lambda: status(chain) != 0, folder / "chain.log")
        settings = {
            "INFERENCE_PAYMENT_ADDRESS": dev_chain.deploy_payment_contract(chain),
            "CHAIN_RPC_URL": chain,
            "CHAIN_WS_URL": chain.replace("http", "ws"),
            "CHAIN_ID": str(dev_chain.CHAIN_ID),
            "GATEWAY_PRIVATE_KEY": dev_chain.RICH_KEY,
            "MAX_UNSETTLED_TOKENS": "1000000000",
        }
        with served(nodes, folder, 1, "", (PEER_CORE,), settings) as peer:
            with ThreadPoolExecutor(WALLETS) as pool:
                tokens = list(pool.map(partial(_pro, peer.url, chain), range(WALLETS)))
            wait(lambda: all(me(peer.url, token)["tier"] == "pro" for token in tokens), folder / "gateway.log")
            wait(lambda: status(peer.url + CHAT, tokens[0]) == 200, folder / "gateway.log")
            yield Peer(peer.pid, peer.port, tokens)


@contextmanager
def served(
    nodes: Sequence[int],
    folder: Path,
    workers: int,
    redis_url: str,
    cores: Sequence[int],
    settings: Mapping[str, str],
) -> Iterator[Peer]:
    """The gateway, healthy, before anybody has signed in."""
    port = free_port()
    environ = {
        **dict.fromkeys(UNSET, ""),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WEB_CONCURRENCY": str(workers),
        "JWT_SECRET": "only-the-benchmark-signs-with-this",
        "NODE_URLS": ",".join(f"http://127.0.0.1:{node}" for node in nodes),
        "REDIS_URL": redis_url,
        "PLUMISE_DATA_DIR": str(folder),
        "FREE_TIER_LIMIT": "100000",
        "FREE_TIER_WINDOW": "10s",
        **settings,
    }
    with started([sys.executable, "app.py"], cores, folder / "gateway.log", environ) as pid:
        peer = Peer(pid, port)
        wait(lambda: status(f"{peer.url}/api/v1/health") == 200, folder / "gateway.log")
        yield peer


def _pro(url: str, chain: str, _: int) -> str:
    account = wallet(None)
    token = sign_in(url, account)
    dev_chain.fund(chain, account.address, 1_000_000 * WEI)
    pay_in(url, chain, account, token, PLM)
    return token
