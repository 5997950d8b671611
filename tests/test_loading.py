"""What each kind of process loads: a library costs each of them its memory and its part of the start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENVIRON = {"JWT_SECRET": "s" * 32, "NODE_URLS": "http://localhost:1"}
WEB_WORKER = "import app; from conf.settings import Settings; app.build_app(Settings.load()).finalize()"

# What runs → what it must not have loaded. A package that is imported late counts by a module within it.
UNLOADED = {
    "import app": {"sanic", "blueprints", "redis", "uvloop", "core.bootstrap.web", "workers.background"},
    WEB_WORKER: {
        "web3", "py_ecc", "aiohttp.client", "requests.sessions", "yaml.loader", "core.settlement.settler",
        "core.oracle.client", "core.nodes.probe", "workers.background",
    },
    "import workers.background": {"web3", "sanic", "blueprints", "jwt"},
    "import workers.settlement": {"web3", "sanic", "core.nodes.probe"},
}  # fmt: skip


def loaded(program: str) -> set[str]:
    """The modules of an interpreter that has run this."""
    said = subprocess.run(
        [sys.executable, "-c", f"{program}; import sys; print(*sys.modules)"],
        cwd=ROOT,
        env=ENVIRON,
        check=True,
        capture_output=True,
        text=True,
    )
    return set(said.stdout.split())


@pytest.mark.parametrize(("program", "unwanted"), UNLOADED.items(), ids=["main", "web", "background", "settler"])
def test_a_process_loads_nothing_that_only_others_need(program: str, unwanted: set[str]) -> None:
    assert not unwanted & loaded(program)


def test_what_is_imported_late_is_there_at_its_first_use() -> None:
    use = (
        "import aiohttp; aiohttp.ClientSession; from aiohttp.abc import AbstractResolver; import requests; requests.get"
    )

    assert {"aiohttp.client", "requests.sessions"} <= loaded(f"{WEB_WORKER}; {use}")


def test_a_part_of_what_is_imported_late_loads_the_whole_before_it() -> None:
    assert "aiohttp.client" in loaded(f"{WEB_WORKER}; from aiohttp.connector import TCPConnector; TCPConnector.close")


def test_a_wallet_needs_nothing_of_what_is_left_out() -> None:
    sign = (
        "from core.wallet import Signer, parse_signature, recover_text; signer = Signer('0x' + '1' * 64);"
        "assert recover_text('text', parse_signature(signer.sign_text('text'))) == signer.address"
    )

    assert "py_ecc" not in loaded(f"{WEB_WORKER}; {sign}")
