"""What is wrong with a request is said with the right status and in its door's shape, and nothing else is said."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from blueprints.bodies import SMALL
from tests.e2e.client import JSON, TIMEOUT_S, Answer, bearer, call, post
from tests.e2e.conftest import OPERATOR_KEY, SECRETS
from tests.e2e.network import AGENT, OPENAI, PETALS, Network
from tests.e2e.server import DEFAULTS, GatewayServer
from tests.e2e.wallet import ask_nonce, new_wallet, sign_in

NATIVE, CHAT, COMPLETIONS, NONCE = (
    "/api/v1/inference",
    "/v1/chat/completions",
    "/v1/completions",
    "/api/v1/auth/nonce",
)
DOORS = [NATIVE, CHAT]
MESSAGE = {"role": "user", "content": "hi"}
GOOD: dict[str, Any] = {"model": PETALS, "messages": [MESSAGE], "max_tokens": 4}
MIB = 1024 * 1024
JSON_TYPE = b"Content-Type: application/json\r\n"
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "GZIP": gzip.compress,
    "identity": bytes,
}
NOT_JSON = {
    "empty": b"",
    "cut off": b'{"model":',
    "null": b"null",
    "a text": b'"x"',
    "a number": b"5",
    "an array": b"[]",
    "NaN": b'{"temperature":NaN}',
    "Infinity": b'{"temperature":Infinity}',
    "minus Infinity": b'{"temperature":-Infinity}',
    "1e999": b'{"temperature":1e999}',
    "a huge integer": b'{"max_tokens":' + b"9" * 1000 + b"}",
    "a lone surrogate": rb'{"model":"\ud800"}',
    "a lone low surrogate": rb'{"model":"\udc00x"}',
    "no UTF-8": b'{"model":"\xff\xfe"}',
    "an encoded surrogate": b'{"model":"\xed\xa0\x80"}',
    "a control character": b'{"model":"\x00"}',
    "deep arrays": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a deep value": b'{"model":' + b"[" * 40 + b"]" * 40 + b"}",
    "a million brackets": b'{"model":[' + b"{}," * 300_000 + b"{}]}",
    "a comment": b'{"model":"m"/**/}',
    "two values": b"{}{}",
    "single quotes": b"{'model':'m'}",
    "a byte order mark": b"\xef\xbb\xbf{}",
}
WRONG_FIELDS: dict[str, dict[str, Any]] = {
    "257 messages": {"messages": [MESSAGE] * 257},
    "a message that is none": {"messages": ["hi"]},
    "null messages and no prompt": {"messages": None},
    "a message without a role": {"messages": [{"content": "hi"}]},
    "a long text": {"messages": [{"role": "user", "content": "x" * 32_001}]},
    "a long model name": {"model": "m" * 101},
    "a negative temperature": {"temperature": -1},
    "max_tokens of a half": {"max_tokens": 1.5},
    "max_tokens of true": {"max_tokens": True},
    "an unknown model": {"model": "no/such"},
    "a model that is an object": {"model": {"a": 1}},
}

NOWHERE = [
    "/nope",
    "/api",
    "/api/v1",
    "/api/v1/nope",
    "/api/v1/inference/nope",
    "/v1",
    "/v1/nope",
    "/v1/chat",
    "/V1/nope",
    "/%00",
    "/%ff",
    "/..%2f..%2fetc/passwd",
    "/api/v1/../../etc/passwd",
    "//v1/models",
    "/v1//models",
]
WRONG_METHODS = [
    ("GET", NATIVE),
    ("GET", CHAT),
    ("GET", NONCE),
    ("PUT", NATIVE),
    ("PATCH", CHAT),
    ("POST", "/health"),
    ("POST", "/api/v1/models"),
    ("DELETE", "/v1/models"),
    ("DELETE", "/api/v1/auth/me"),
]
BAD_CREDENTIALS = [
    b"",
    b"Bearer",
    b"Bearer ",
    b"Bearer null",
    b"Bearer x.y.z",
    b"Bearer eyJhbGciOiJub25lIn0.e30.",
    b"Bearer \xff\xfe",
    "Bearer ключ".encode(),
    b"Bearer " + b"a" * 4000,
    b"Basic dXNlcjpwYXNz",
    OPERATOR_KEY.encode(),
]
POST_HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: h\r\n"
GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\r\n\r\n\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
    POST_HEAD + b"Content-Length: -5\r\n\r\n",
    POST_HEAD + b"Content-Length: x\r\n\r\n",
    POST_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
]


def assert_refused(answer: Answer, status: int, path: str) -> None:
    """The status, the door's shape, and no word of what is inside."""
    assert answer.status == status, answer.body
    assert b"Traceback" not in answer.body
    assert b'File "' not in answer.body
    assert b".py" not in answer.body
    body = answer.json()
    if path.lower().startswith("/v1"):
        assert body.keys() == {"error"}
        assert body["error"].keys() - {"details"} == {"message", "type", "param", "code"}
        assert isinstance(body["error"]["message"], str)
    else:
        assert body.keys() - {"error", "details"} == {"message", "statusCode"}
        assert body["statusCode"] == status


class TestBodies:
    @pytest.mark.parametrize("name", NOT_JSON)
    @pytest.mark.parametrize("path", [*DOORS, COMPLETIONS, NONCE, "/api/v1/inference/stream"])
    def test_that_can_not_be_read_are_refused(self, url: str, token: str, path: str, name: str) -> None:
        answer = call(url, "POST", path, headers=JSON | bearer(token), body=NOT_JSON[name])

        is_long = path == NONCE and len(NOT_JSON[name]) > SMALL
        assert_refused(answer, 413 if is_long else 400, path)

    @pytest.mark.parametrize("name", WRONG_FIELDS)
    @pytest.mark.parametrize("path", DOORS)
    def test_whose_fields_are_wrong_are_refused(self, url: str, token: str, path: str, name: str) -> None:
        answer = post(url, path, GOOD | WRONG_FIELDS[name], token)

        status = 404 if name == "an unknown model" and path == CHAT else 400
        assert_refused(answer, status, path)

    def test_with_unknown_fields_are_refused_or_served_as_the_door_has_it(self, url: str, token: str) -> None:
        extra = GOOD | {"zzz": 1, "user": "u"}

        native = post(url, NATIVE, extra, token)
        assert_refused(native, 400, NATIVE)
        assert native.json()["message"] == ["property zzz should not exist", "property user should not exist"]
        assert post(url, CHAT, extra, token).status == 200

    @pytest.mark.parametrize("encoding", COMPRESSED)
    @pytest.mark.parametrize("path", DOORS)
    def test_that_are_compressed_are_read(self, url: str, token: str, path: str, encoding: str) -> None:
        body = COMPRESSED[encoding](json.dumps(GOOD).encode())
        answer = call(url, "POST", path, headers=JSON | bearer(token) | {"Content-Encoding": encoding}, body=body)

        assert answer.status in (200, 201), answer.body

    @pytest.mark.parametrize(
        ("encoding", "body", "status"),
        [
            ("br", b"{}", 415),
            ("gzip, gzip", b"{}", 415),
            ("gzip", b"{}", 400),
            ("gzip", gzip.compress(b'{"a":1}')[:-9], 400),
            ("deflate", b"", 400),
            ("gzip", gzip.compress(bytes(MIB + 1)), 413),
            ("deflate", zlib.compress(bytes(100 * MIB)), 413),
        ],
        ids=["unknown", "twice", "none of it", "cut off", "empty", "a bit too much", "a bomb"],
    )
    @pytest.mark.parametrize("path", [*DOORS, NONCE])
    def test_that_are_compressed_and_can_not_be_read_are_refused(
        self, url: str, token: str, path: str, encoding: str, body: bytes, status: int
    ) -> None:
        answer = call(url, "POST", path, headers=JSON | bearer(token) | {"Content-Encoding": encoding}, body=body)

        assert_refused(answer, status, path)

    @pytest.mark.parametrize("path", DOORS)
    def test_with_a_byte_order_mark_are_read(self, url: str, token: str, path: str) -> None:
        answer = call(url, "POST", path, headers=JSON | bearer(token), body=BOM_UTF8 + json.dumps(GOOD).encode())

        assert answer.status in (200, 201), answer.body

    @pytest.mark.parametrize("path", [*DOORS, NONCE])
    def test_over_the_limit_are_refused_by_their_length(self, url: str, token: str, path: str) -> None:
        answer = call(url, "POST", path, headers=JSON | bearer(token), body=b'"' + b"x" * MIB)

        assert_refused(answer, 413, path)

    @pytest.mark.parametrize("path", DOORS)
    def test_over_the_limit_may_be_sent_to_their_end_before_the_refusal_is_read(
        self, url: str, token: str, path: str
    ) -> None:
        host = url.removeprefix("http://")
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: {4 * MIB}\r\n"
        name, _, port = host.partition(":")
        with socket.create_connection((name, int(port)), timeout=TIMEOUT_S) as client:
            client.sendall(head.encode() + JSON_TYPE + b"\r\n" + b"x" * MIB)
            client.recv(1, socket.MSG_PEEK)  # it is answered
            time.sleep(0.05)
            client.sendall(b"x" * 3 * MIB)  # what a close would have answered with a reset

            assert client.recv(65_536).startswith(b"HTTP/1.1 413 ")

    @pytest.mark.parametrize("path", DOORS)
    def test_over_the_limit_are_refused_in_chunks_too(self, url: str, token: str, path: str) -> None:
        def chunks() -> Iterator[bytes]:
            for _ in range(40):
                yield b"x" * 65_536

        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)
        with suppress(BrokenPipeError, ConnectionResetError):  # it may hang up before all of it was sent
            connection.request("POST", path, chunks(), JSON | bearer(token), encode_chunked=True)
        with suppress(ConnectionResetError):
            response = connection.getresponse()
            assert_refused(Answer(response.status, {}, response.read()), 413, path)
        connection.close()
        assert post(url, NATIVE, GOOD, token).status == 201

    @pytest.mark.parametrize("path", DOORS)
    def test_just_at_the_limit_are_read(self, url: str, token: str, path: str) -> None:
        body = json.dumps(GOOD).encode()

        answer = call(url, "POST", path, headers=JSON | bearer(token), body=body + b" " * (MIB - len(body)))

        assert answer.status in (200, 201)

    @pytest.mark.parametrize("kind", ["text/plain", "application/xml", "", "application/json; charset=x", "x" * 1000])
    def test_of_a_strange_content_type_are_never_a_fault_of_ours(self, url: str, token: str, kind: str) -> None:
        for path in (*DOORS, NONCE):
            answer = call(url, "POST", path, headers={"Content-Type": kind} | bearer(token), body=json.dumps(GOOD))
            assert answer.status in (200, 201, 400), (path, answer.body)

    def test_as_a_form_with_too_many_fields_are_refused(self, url: str) -> None:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}

        assert_refused(call(url, "POST", NONCE, headers=headers, body="a=1&" * 101), 400, NONCE)

    def test_for_get_are_not_needed(self, url: str, token: str) -> None:
        path = "/api/v1/inference/stream"

        assert_refused(call(url, "GET", path, headers=bearer(token)), 400, path)
        assert_refused(call(url, "GET", path, headers=JSON | bearer(token), body=b"null"), 400, path)


class TestPaths:
    @pytest.mark.parametrize("path", NOWHERE)
    def test_that_lead_nowhere_are_not_found(self, url: str, path: str) -> None:
        assert_refused(call(url, "GET", path), 404, path)

    @pytest.mark.parametrize(("method", "path"), WRONG_METHODS)
    def test_with_a_wrong_method_are_not_found_either(self, url: str, token: str, method: str, path: str) -> None:
        answer = call(url, method, path, headers=bearer(token))

        assert_refused(answer, 404, path)
        assert f"Cannot {method} {path}" in answer.body.decode()

    @pytest.mark.parametrize("model", ["nope", "a%2Fb", "%00", "%ff", "x" * 3000, "%F0%9F%98%80"])
    @pytest.mark.parametrize("path", ["/v1/models", "/api/v1/models"])
    def test_of_unknown_models_are_not_found(self, url: str, token: str, path: str, model: str) -> None:
        assert_refused(call(url, "GET", f"{path}/{model}", headers=bearer(token)), 404, path)


class TestWhoAsks:
    @pytest.mark.parametrize("given", BAD_CREDENTIALS)
    @pytest.mark.parametrize("path", DOORS)
    def test_without_a_good_token_is_refused_before_the_body_is_looked_at(
        self, url: str, path: str, given: bytes
    ) -> None:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)
        connection.putrequest("POST", path)
        connection.putheader("Authorization", given)
        connection.putheader("Content-Length", "1")
        connection.endheaders(b"{")
        response = connection.getresponse()
        answer = Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        )
        connection.close()

        assert_refused(answer, 401, path)
        assert answer.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("name", ["token", "access_token", "api_key", "key", "authorization"])
    def test_is_not_told_by_the_query(self, url: str, token: str, name: str) -> None:
        for method, path in (("GET", "/api/v1/auth/me"), ("POST", NATIVE), ("POST", CHAT), ("GET", "/v1/models")):
            assert_refused(call(url, method, f"{path}?{name}={token}", headers=JSON, body="{}"), 401, path)

    def test_with_the_operators_key_is_known_at_openais_doors_alone(self, url: str) -> None:
        assert call(url, "GET", "/v1/models", headers=bearer(OPERATOR_KEY)).status == 200
        assert_refused(call(url, "GET", "/api/v1/auth/me", headers=bearer(OPERATOR_KEY)), 401, "/api/v1")
        assert_refused(post(url, NATIVE, GOOD, OPERATOR_KEY), 401, NATIVE)


class TestTheWire:
    @pytest.mark.parametrize("raw", GARBAGE)
    def test_garbage_on_it_is_never_answered_with_a_fault_of_ours(self, url: str, raw: bytes) -> None:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), TIMEOUT_S) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            with suppress(ConnectionResetError):
                while part := connection.recv(65_536):
                    answer += part

        assert b"Traceback" not in answer
        assert not answer or answer.split(b" ")[1][:1] in (b"2", b"4"), answer
        assert call(url, "GET", "/health").status == 200


class TestSecrets:
    def test_never_reach_the_log(self, gateway: GatewayServer, url: str, nodes: Network) -> None:
        wallet = new_wallet()
        signature = wallet.sign(ask_nonce(url, wallet)["message"])
        sign = {"address": wallet.checksummed, "signature": signature}
        token = post(url, "/api/v1/auth/verify", sign).json()["token"]
        forged = token[:-8] + "AAAAAAAA"
        nodes.petals.fault = "500"
        for key in (token, forged, OPERATOR_KEY, OPERATOR_KEY + "x"):
            for path in (*DOORS, "/api/v1/inference/stream"):
                post(url, path, GOOD, key)
                post(url, path, {"model": key}, key)
                call(url, "POST", f"{path}?token={key}&signature={signature}", headers=JSON, body=b"{")
        post(url, "/api/v1/auth/verify", sign)
        call(url, "GET", f"/nope/{token}?signature={signature}", headers=bearer(token))
        post(url, "/api/v1/auth/logout", {}, token)

        log = gateway.log()
        assert "500" in log
        for secret in (*SECRETS.values(), DEFAULTS["JWT_SECRET"], signature[2:], token, token.split(".")[2], forged):
            assert secret not in log

    def test_never_reach_a_node(self, url: str, token: str, nodes: Network) -> None:
        for model in (PETALS, AGENT, OPENAI):
            assert post(url, CHAT, GOOD | {"model": model}, token).status == 200
            assert post(url, CHAT, GOOD | {"model": model}, OPERATOR_KEY).status == 200

        for node in nodes.nodes:
            for seen in node.generated:
                assert seen.headers["authorization"] == f"Bearer {SECRETS['NODE_API_SECRET']}"
                assert token not in str(vars(seen))
                assert OPERATOR_KEY not in str(vars(seen))

    def test_of_a_node_never_reach_a_client(self, url: str, token: str, nodes: Network) -> None:
        for model in (PETALS, AGENT, OPENAI):
            for fault in ("500", "503", "422", "400", "401", "error-event", "garbage"):
                nodes.node_of(model).fault, nodes.node_of(model).after = fault, 0
                for stream in (False, True):
                    answer = post(url, CHAT, GOOD | {"model": model, "stream": stream}, OPERATOR_KEY)
                    assert answer.status in (400, 503)
                    for inside in (b"CUDA", b"/opt", b"127.0.0.1", b"html", b"detail", b"Invalid token"):
                        assert inside not in answer.body

    def test_of_a_failed_sign_in_never_come_back(self, url: str) -> None:
        wallet = new_wallet()
        ask_nonce(url, wallet)
        signature = new_wallet().sign("x")

        refused = post(url, "/api/v1/auth/verify", {"address": wallet.checksummed, "signature": signature})

        assert signature[2:].encode() not in refused.body
        assert sign_in(url, wallet)
