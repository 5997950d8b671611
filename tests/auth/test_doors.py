"""The sign-in doors over HTTP: the former service's shapes and words, and who is let in."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from sanic import HTTPResponse, Request, Sanic
from sanic.response import json
from sanic_ext import Extend

from blueprints.auth import bp
from blueprints.errors import register_errors
from blueprints.guards import authenticate
from blueprints.injection import PlannedInjection
from core.access.tiers import FreeForAll, Standings
from core.access.window import QuotaWindow
from core.auth.caller import Caller
from core.auth.keys import OperatorKey
from core.auth.nonces import Nonces
from core.auth.sign_in import SignIn
from core.auth.tokens import TokenService
from core.clock import SystemClock
from core.store import Store
from tests.fakes.wallet import Wallet

ORIGINS = ("https://plug.plumise.com", "http://localhost:3000")
OPERATOR_KEY = "operator-key-of-the-test"
WALLET = Wallet()
UNAUTHORIZED = {"message": "Unauthorized", "statusCode": 401}
NOT_ETHEREUM, NO_ADDRESS, NO_SIGNATURE = (
    "address must be an Ethereum address",
    "address must be a string",
    "signature must be a string",
)


def build(store: Store) -> Sanic:
    """An application with nothing but the sign-in doors, and one that tells who came through it."""
    app = Sanic("sign-in-doors")
    Extend(app, extensions=[PlannedInjection], built_in_extensions=False)
    app.config.update({"MOTD": False, "ACCESS_LOG": False})
    tokens, tiers = TokenService("s" * 32, None, 3600, SystemClock(), store), FreeForAll()
    sign_in = SignIn(Nonces(store), tokens, 41956, ORIGINS)
    app.ctx.services = SimpleNamespace(tokens=tokens, operator_key=OperatorKey(OPERATOR_KEY))

    async def who(_: Request, caller: Caller) -> HTTPResponse:
        return json({"subject": caller.subject})

    app.add_route(who, "/v1/who", name="openai")
    app.add_route(who, "/api/v1/who", name="native", methods=["GET", "POST"])
    app.blueprint(bp)
    register_errors(app)
    app.ext.add_dependency(Caller, authenticate)
    app.ext.add_dependency(Standings, lambda: tiers)
    for service in (tokens, sign_in, QuotaWindow(store, limit=10, window_s=3600)):
        app.ext.dependency(service)
    return app


@pytest_asyncio.fixture
async def http(store: Store) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the doors, served on a free port."""
    Sanic.test_mode = True
    app = build(store)
    listener = socket.create_server(("127.0.0.1", 0))
    server = await app.create_server(sock=listener, return_asyncio_server=True)
    assert server is not None
    await server.startup()
    await server.before_start()
    await server.start_serving()
    port = listener.getsockname()[1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        yield client
    server.close()
    await server.wait_closed()
    Sanic.unregister_app(app)


async def post(http: aiohttp.ClientSession, path: str, **request: Any) -> tuple[int, Any]:
    async with http.post(path, **request) as answer:
        return answer.status, await answer.json()


async def get(http: aiohttp.ClientSession, path: str, authorization: str | None = None) -> tuple[int, Any]:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with http.get(path, headers=headers) as answer:
        return answer.status, await answer.json()


async def signed_in(http: aiohttp.ClientSession) -> str:
    _, challenge = await post(http, "/api/v1/auth/nonce", json={"address": WALLET.address})
    body = {"address": WALLET.address, "signature": WALLET.sign(challenge["message"])}
    return str((await post(http, "/api/v1/auth/verify", json=body))[1]["token"])


def bad_request(*complaints: str) -> tuple[int, dict[str, Any]]:
    return 400, {"message": list(complaints), "error": "Bad Request", "statusCode": 400}


@pytest.mark.asyncio
class TestNonce:
    @pytest.mark.parametrize("encoding", ["json", "data"])
    async def test_answers_three_forms_of_one_nonce(self, http: aiohttp.ClientSession, encoding: str) -> None:
        status, body = await post(http, "/api/v1/auth/nonce", **{encoding: {"address": WALLET.checksummed}})
        nonce = body["nonce"]

        assert status == 201
        assert body.keys() == {"nonce", "message", "typedData", "siwe"}
        assert body["message"].endswith(f"\n\nNonce: {nonce}")
        assert body["typedData"]["message"]["nonce"] == nonce
        assert f"\nNonce: {nonce}\n" in body["siwe"]

    @pytest.mark.parametrize("origin", ORIGINS)
    async def test_names_the_page_that_asks(self, http: aiohttp.ClientSession, origin: str) -> None:
        request = {"json": {"address": WALLET.address}, "headers": {"Origin": origin}}
        _, body = await post(http, "/api/v1/auth/nonce", **request)

        assert body["siwe"].startswith(origin.split("//")[1] + " wants you to sign in")
        assert body["typedData"]["message"]["uri"] == origin

    @pytest.mark.parametrize(
        ("body", "complaints"),
        [
            ({}, [NOT_ETHEREUM, NO_ADDRESS]),
            ([], [NOT_ETHEREUM, NO_ADDRESS]),
            ({"address": 5}, [NOT_ETHEREUM, NO_ADDRESS]),
            ({"address": "0x123"}, [NOT_ETHEREUM]),
            ({"address": WALLET.address[2:]}, [NOT_ETHEREUM]),
            ({"address": WALLET.address, "x": 1}, ["property x should not exist"]),
            (
                {"y": 1, "x": 1},
                ["property y should not exist", "property x should not exist", NOT_ETHEREUM, NO_ADDRESS],
            ),
        ],
    )
    async def test_complains_in_the_former_words_and_order(
        self, http: aiohttp.ClientSession, body: Any, complaints: list[str]
    ) -> None:
        assert await post(http, "/api/v1/auth/nonce", json=body) == bad_request(*complaints)


@pytest.mark.asyncio
class TestVerify:
    async def test_answers_a_token_that_opens_the_doors(self, http: aiohttp.ClientSession) -> None:
        token = await signed_in(http)

        assert await get(http, "/api/v1/auth/me", f"Bearer {token}") == (
            200,
            {
                "address": WALLET.address,
                "tier": "free",
                "tier_source": "off",
                "balance_wei": None,
                "balance_plm": None,
                "rate_limit": {"used": 0, "limit": 10, "resetAt": None},
            },
        )

    @pytest.mark.parametrize(
        ("body", "complaints"),
        [
            ({}, [NOT_ETHEREUM, NO_ADDRESS, NO_SIGNATURE]),
            ({"address": WALLET.address}, [NO_SIGNATURE]),
            ({"address": "x", "signature": 1}, [NOT_ETHEREUM, NO_SIGNATURE]),
            ({"address": WALLET.address, "signature": "", "nonce": ""}, ["property nonce should not exist"]),
        ],
    )
    async def test_complains_in_the_former_words_and_order(
        self, http: aiohttp.ClientSession, body: Any, complaints: list[str]
    ) -> None:
        assert await post(http, "/api/v1/auth/verify", json=body) == bad_request(*complaints)

    async def test_refuses_in_the_former_shape(self, http: aiohttp.ClientSession) -> None:
        body = {"address": WALLET.address, "signature": "0x1234"}
        before = await post(http, "/api/v1/auth/verify", json=body)
        await post(http, "/api/v1/auth/nonce", json={"address": WALLET.address})
        after = await post(http, "/api/v1/auth/verify", json=body)

        refused = {"error": "Unauthorized", "statusCode": 401}
        assert before == (401, {"message": "Nonce not found or expired", **refused})
        assert after == (401, {"message": "Invalid signature", **refused})


@pytest.mark.asyncio
class TestLogout:
    async def test_ends_the_token_that_asks(self, http: aiohttp.ClientSession) -> None:
        ended, kept = await signed_in(http), await signed_in(http)
        headers = {"Authorization": f"Bearer {ended}"}

        assert await post(http, "/api/v1/auth/logout", headers=headers) == (201, {"status": "ok"})
        assert await get(http, "/api/v1/auth/me", f"Bearer {ended}") == (401, UNAUTHORIZED)
        assert (await get(http, "/api/v1/auth/me", f"Bearer {kept}"))[0] == 200


@pytest.mark.asyncio
class TestGuard:
    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    async def test_takes_the_scheme_in_any_letter_case(self, http: aiohttp.ClientSession, scheme: str) -> None:
        token = await signed_in(http)

        assert await get(http, "/api/v1/who", f"{scheme}  {token} ") == (200, {"subject": WALLET.address})
        assert await get(http, "/v1/who", f"{scheme} {token}") == (200, {"subject": WALLET.address})

    @pytest.mark.parametrize(
        "header", [None, "", "Bearer", "Bearer ", "Bearer x.y.z", "Bearer ÿ", "Basic {token}", "{token}"]
    )
    async def test_refuses_all_else_in_the_former_shape(self, http: aiohttp.ClientSession, header: str | None) -> None:
        header = header and header.format(token=await signed_in(http))

        assert await get(http, "/api/v1/who", header) == (401, UNAUTHORIZED)

    async def test_looks_into_the_header_only(self, http: aiohttp.ClientSession) -> None:
        token = await signed_in(http)

        assert (await get(http, f"/api/v1/who?token={token}&access_token={token}"))[0] == 401

    async def test_comes_before_the_body(self, http: aiohttp.ClientSession) -> None:
        assert (await post(http, "/api/v1/who", data=b"{"))[0] == 401

    async def test_knows_the_operator_on_the_openai_doors_only(self, http: aiohttp.ClientSession) -> None:
        assert await get(http, "/v1/who", f"Bearer {OPERATOR_KEY}") == (200, {"subject": "openai-compat"})
        assert await get(http, "/api/v1/who", f"Bearer {OPERATOR_KEY}") == (401, UNAUTHORIZED)
        assert (await get(http, "/v1/who", f"Bearer {OPERATOR_KEY}x"))[0] == 401
