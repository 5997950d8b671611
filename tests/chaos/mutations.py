"""The settler and the ledger with one of their precautions taken away, to show that chaos finds it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import core.store
from core import redis_keys
from core.billing.commits import Commits
from core.chain.account import Account
from core.errors import ChainUnavailable
from core.settlement.fees import Fees
from core.settlement.journal import Attempt, OpenTx
from core.settlement.payload import debit
from core.settlement.planning import Planner
from core.settlement.rules import Rules
from core.settlement.sender import Sender
from core.steps import Step

RUN_ID = r"string\.match\(redis\.call\('INFO', 'server'\), 'run_id:\(%x\+\)'\)"
EPOCH = r"redis\.call\('H?GET', KEYS\[\d\](, 'epoch')?\) ~= ARGV\[1\]"


def apply(name: str | None, folder: Path) -> None:
    """Changes this process, and no other; `folder` is where it may write."""
    if name is not None:
        MUTATIONS[name](folder)


def no_write_ahead(folder: Path) -> None:
    """A debit is sent before it is written down, under the nonce that the endpoint says is next."""

    async def settle(self: Any, epoch: str, _: int, user: str, affordable: int, fees: Fees) -> bool:
        desk = self._desk
        cum, settled, inflight = await desk.store.run("mutant_credit", [redis_keys.credit(user)], [])
        nonce, tokens = await desk.account.count("pending"), min(int(cum) - int(settled), affordable)
        if int(inflight) or tokens <= 0:
            return False
        payload = debit(desk.contract.address, user, tokens, int(settled) + tokens)
        raw, digest = desk.sender._sign(nonce, payload, fees)
        await desk.account.send(raw)
        desk.at("sent")
        await desk.store.set(redis_keys.JOURNAL_NEXT, str(nonce), 3600)
        tx = await desk.journal.plan(epoch, nonce, user, tokens, 1000)
        await desk.journal.append(tx, Attempt(raw, digest, fees.max_fee, fees.tip, int(desk.clock.now() * 1000)))
        return True

    fields = "'cum', 'settled', 'inflight'"
    script = f"local c = redis.call('HMGET', KEYS[1], {fields}) return {{c[1] or '0', c[2] or '0', c[3] or '0'}}"
    _change_scripts(folder, "", "", {"mutant_credit": script})
    patch.object(Planner, "_settle", settle).start()


def no_confirmations(_: Path) -> None:
    """The first block counts."""
    begin = Rules.__init__

    def init(self: Any, **values: Any) -> None:
        begin(self, **(values | {"confirmations": 0}))

    patch.object(Rules, "__init__", init).start()


def error_means_unsent(_: Path) -> None:
    """Whatever the endpoint did not confirm has not happened: the tokens are outstanding again."""
    attempt = Sender.attempt

    async def doubtful(self: Any, tx: OpenTx, contract: str, fees: Fees, at: Step) -> None:
        failed = False

        async def send(account: Any, raw: str) -> None:
            nonlocal failed
            try:
                await account._chain.request("eth_sendRawTransaction", raw)
            except ChainUnavailable:
                failed = True

        with patch.object(Account, "send", send):
            await attempt(self, tx, contract, fees, at)
        if failed:
            await self._journal.close(replace(tx), None)

    patch.object(Sender, "attempt", doubtful).start()


def no_epoch(folder: Path) -> None:
    """Nobody asks whether the journal is still the one that he knows."""
    _change_scripts(folder, EPOCH, "false")


def no_run_id_guard(folder: Path) -> None:
    """A Redis that was restarted is trusted to know everything."""
    _change_scripts(folder, RUN_ID, "'any'")


def no_replay(_: Path) -> None:
    """What Redis has confirmed once is not told it again."""

    def repeat(_: Commits) -> None:
        pass

    patch.object(Commits, "repeat", repeat).start()


def _change_scripts(folder: Path, pattern: str, by: str, more: dict[str, str] | None = None) -> None:
    """This process runs other scripts than core/lua's."""
    mine = folder / f"lua-{os.getpid()}"
    mine.mkdir()
    for file in core.store.SCRIPTS.glob("*.lua"):
        text = file.read_text()
        is_settlers = file.stem.startswith(("settle_", "recover_"))
        (mine / file.name).write_text(re.sub(pattern, by, text) if pattern and is_settlers else text)
    for name, text in (more or {}).items():
        (mine / f"{name}.lua").write_text(text)
    patch.object(core.store, "SCRIPTS", mine).start()


MUTATIONS: dict[str, Callable[[Path], None]] = {
    mutation.__name__: mutation
    for mutation in (no_write_ahead, no_confirmations, error_means_unsent, no_epoch, no_run_id_guard, no_replay)
}
