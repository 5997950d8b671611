"""The API document: it tells of every route, it is valid, and its schemas say what the doors do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import schemathesis
from sanic import Sanic

import blueprints
from blueprints.api_answers import QUOTA_HEADERS
from blueprints.api_document import document
from blueprints.docs import DOCUMENT
from blueprints.routing import AnyCaseRouter
from conf.settings import Settings
from core.access.grant import Quota
from core.access.rate_limit import quota_headers
from core.errors import InvalidRequest
from core.inference import native_body
from core.inference.openai_body import parse_chat, parse_completion
from core.inference.requests import MAX_MESSAGES, MAX_MODEL_NAME, MAX_TEXT

UNDOCUMENTED = {"/socket.io", "/ws/agent-relay"}  # protocols of their own, which OpenAPI has no words for
METHODS = ("get", "post", "put", "patch", "delete")
WRITTEN = document()
MINIMAL: dict[str, Any] = {"model": "m", "prompt": "p", "max_tokens": 1}
TURN: dict[str, Any] = {"role": "user", "content": "hello"}
TAKEN: dict[str, list[Any]] = {
    "model": ["", "m" * MAX_MODEL_NAME],
    "prompt": ["가" * MAX_TEXT, "😀" * MAX_TEXT],
    "messages": [None, [], [TURN], [TURN] * MAX_MESSAGES],
    "max_tokens": [native_body.MAX_TOKENS, 16.0],
    "temperature": [0, 2, 0.7, None],
    "top_p": [0, 1, 0.9, None],
    "stream": [True, False, None],
}
REFUSED: dict[str, list[Any]] = {
    "unknown": [1],
    "model": [None, 1, ["m"], "m" * (MAX_MODEL_NAME + 1)],
    "prompt": ["", None, 1, True, ["p"], "x" * (MAX_TEXT + 1)],
    "messages": ["x", {}, TURN, 1, [1], ["x"], [None], [[]], [TURN, None], [TURN] * (MAX_MESSAGES + 1)],
    "max_tokens": [0, -1, native_body.MAX_TOKENS + 1, 1.5, "1", None, True, [1]],
    "temperature": [-0.01, 2.01, "1", True, []],
    "top_p": [-0.01, 1.01, "1", True, []],
    "stream": [0, 1, "true", []],
}
TURNS_TAKEN: list[dict[str, Any]] = [
    {"role": "system"},
    {"role": "assistant"},
    {"content": ""},
    {"content": "x" * MAX_TEXT},
]
TURNS_REFUSED: dict[str, list[Any]] = {
    "role": ["developer", "USER", "", None, 1],
    "content": [None, 1, [], "x" * (MAX_TEXT + 1)],
    "name": ["x"],
}


@pytest.fixture
def app() -> Iterator[Sanic]:
    """The application's routes, without its services."""
    app = Sanic("api-document", router=AnyCaseRouter(), configure_logging=False)
    blueprints.register(app, Settings.from_env({"JWT_SECRET": "s" * 32, "NODE_URLS": "http://127.0.0.1:9"}))
    yield app
    Sanic.unregister_app(app)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation object of each."""
    for path, methods in WRITTEN["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def found(key: str, value: Any) -> Iterator[Any]:
    """The values of a key, however deep they stand."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from found(key, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from found(key, inner)


def validator(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    """Checks values against a schema that may refer to the document's others."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": WRITTEN["components"]})


def bodies(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every media type object of an operation."""
    for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from holder.get("content", {}).values()


class TestRoutes:
    def test_the_document_has_every_route_and_no_other(self, app: Sanic) -> None:
        routes = {
            (method.lower(), re.sub(r"<(\w+):[^>]*>", r"{\1}", route.uri))
            for route in app.router.routes
            for method in route.methods
            if method != "HEAD" and route.uri not in UNDOCUMENTED
        }

        assert {(method, path) for method, path, _ in operations()} == routes

    def test_every_get_route_answers_head_as_the_document_says(self, app: Sanic) -> None:
        reading = [route for route in app.router.routes if "GET" in route.methods and route.uri not in UNDOCUMENTED]

        assert all("HEAD" in route.methods for route in reading)

    def test_an_operation_needs_a_token_exactly_when_its_handler_names_a_caller(self, app: Sanic) -> None:
        guarded = {
            (method.lower(), re.sub(r"<(\w+):[^>]*>", r"{\1}", route.uri))
            for route in app.router.routes
            for method in route.methods
            if method != "HEAD" and route.uri not in UNDOCUMENTED and "caller" in route.handler.__annotations__
        }

        assert {(method, path) for method, path, operation in operations() if operation["security"]} == guarded

    def test_the_operator_key_opens_the_openai_doors_only(self) -> None:
        opened = {path for _, path, operation in operations() if {"operator": []} in operation["security"]}

        assert opened == {path for path in WRITTEN["paths"] if path.startswith("/v1/")}


class TestForm:
    def test_it_is_valid_openapi_3_1(self) -> None:
        schema = schemathesis.openapi.from_dict(WRITTEN)

        schema.validate()

        assert WRITTEN["openapi"].startswith("3.1.")

    def test_what_is_served_is_the_document(self) -> None:
        assert msgspec.json.decode(DOCUMENT) == WRITTEN

    def test_every_reference_leads_somewhere(self) -> None:
        for reference in found("$ref", WRITTEN):
            target: Any = WRITTEN
            for step in reference.removeprefix("#/").split("/"):
                target = target[step]

    def test_every_schema_is_referred_to(self) -> None:
        used = {reference.rpartition("/")[2] for reference in found("$ref", WRITTEN)}
        in_words = {"NativeEnd"}  # the data of a stream's last event

        assert used | in_words >= WRITTEN["components"]["schemas"].keys()

    def test_operation_ids_are_unique(self) -> None:
        ids = [operation["operationId"] for _, _, operation in operations()]

        assert len(ids) == len(set(ids))

    def test_every_schema_is_valid_json_schema(self) -> None:
        for schema in WRITTEN["components"]["schemas"].values():
            validator(schema)

    def test_the_examples_follow_their_schemas(self) -> None:
        checked = 0
        for _, _, operation in operations():
            for media in bodies(operation):
                for example in media.get("examples", {}).values():
                    validator(media["schema"]).validate(example["value"])
                    checked += 1
            for parameter in operation.get("parameters", ()):
                validator(parameter["schema"]).validate(parameter["example"])
                checked += 1

        assert checked > 20

    def test_errors_have_the_shape_of_their_door(self) -> None:
        for _, path, operation in operations():
            shape = "OpenAIError" if path.startswith("/v1/") else "NativeError"
            for status, answer in operation["responses"].items():
                if status >= "400" and path != "/ready":
                    reference = answer["content"]["application/json"]["schema"]["$ref"]
                    assert reference == f"#/components/schemas/{shape}", (path, status)

    def test_it_names_the_quota_headers_that_answers_carry(self) -> None:
        sent = quota_headers(Quota(limit=10, used=3, window_s=3600, reset_at_ms=1, reset_after_s=1800))

        assert set(QUOTA_HEADERS) == sent.keys()


def parsed(parse: Callable[[Any], object], body: Any) -> bool:
    """Whether a door's parser takes the body."""
    try:
        parse(body)
    except InvalidRequest:
        return False
    return True


class TestNativeRequest:
    """The schema of the native body is written beside its validator: they must say the same."""

    schema = validator(WRITTEN["components"]["schemas"]["NativeRequest"])

    @pytest.mark.parametrize(
        "body",
        [
            MINIMAL,
            {"model": "m", "messages": [TURN], "max_tokens": 1},
            {"model": "m", "messages": [], "max_tokens": 1},
            MINIMAL | {"prompt": "", "messages": [TURN]},
            MINIMAL | {"prompt": None, "messages": [TURN]},
            *(MINIMAL | {name: value} for name, values in TAKEN.items() for value in values),
            *(MINIMAL | {"messages": [TURN | change]} for change in TURNS_TAKEN),
        ],
    )
    def test_both_take(self, body: dict[str, Any]) -> None:
        assert self.schema.is_valid(body)
        assert parsed(native_body.parse, body)

    @pytest.mark.parametrize(
        "body",
        [
            {},
            *({name: value for name, value in MINIMAL.items() if name != missing} for missing in MINIMAL),
            *(MINIMAL | {name: value} for name, values in REFUSED.items() for value in values),
            *(
                MINIMAL | {"messages": [TURN | {name: value}]}
                for name, values in TURNS_REFUSED.items()
                for value in values
            ),
            MINIMAL | {"messages": [{"role": "user"}]},
            MINIMAL | {"messages": [{"content": "x"}]},
        ],
    )
    def test_both_refuse(self, body: dict[str, Any]) -> None:
        assert not self.schema.is_valid(body)
        assert not parsed(native_body.parse, body)

    def test_both_know_the_same_fields(self) -> None:
        schemas = WRITTEN["components"]["schemas"]

        assert schemas["NativeRequest"]["properties"].keys() == set(native_body.FIELDS)
        assert schemas["NativeMessage"]["properties"].keys() == set(native_body.MESSAGE_FIELDS)


CHAT: dict[str, Any] = {"model": "m", "messages": [TURN]}
COMPLETION: dict[str, Any] = {"model": "m", "prompt": "p"}
PART = {"type": "text", "text": "hello"}


class TestOpenAIRequests:
    """What the types of these bodies do not say, their parsers check: the schemas tell of it too."""

    chat = validator(WRITTEN["components"]["schemas"]["ChatBody"])
    completion = validator(WRITTEN["components"]["schemas"]["CompletionBody"])

    @pytest.mark.parametrize(
        ("body", "taken"),
        [
            (CHAT, True),
            (CHAT | {"anything": "else"}, True),
            (CHAT | {"n": 1}, True),
            (CHAT | {"n": None}, True),
            (CHAT | {"n": 2}, False),
            (CHAT | {"messages": []}, False),
            (CHAT | {"messages": [TURN | {"content": None}]}, True),
            (CHAT | {"messages": [TURN | {"content": [PART]}]}, True),
            (CHAT | {"messages": [TURN | {"content": [PART | {"type": "image_url"}]}]}, False),
            (CHAT | {"messages": [TURN | {"content": [PART | {"text": None}]}]}, False),
            (CHAT | {"messages": [TURN | {"content": [{"type": "text"}]}]}, False),
            (CHAT | {"max_completion_tokens": 0}, False),
        ],
    )
    def test_schema_and_parser_of_chats_agree(self, body: dict[str, Any], taken: bool) -> None:
        assert self.chat.is_valid(body) is taken
        assert parsed(parse_chat, msgspec.json.encode(body)) is taken

    @pytest.mark.parametrize(
        ("body", "taken"),
        [
            (COMPLETION, True),
            (COMPLETION | {"prompt": ["p"]}, True),
            (COMPLETION | {"prompt": ""}, False),
            (COMPLETION | {"prompt": [""]}, False),
            (COMPLETION | {"prompt": []}, False),
            (COMPLETION | {"prompt": ["p", "q"]}, False),
            (COMPLETION | {"n": 2}, False),
            (COMPLETION | {"stop": ["x"] * 5}, False),
        ],
    )
    def test_schema_and_parser_of_completions_agree(self, body: dict[str, Any], taken: bool) -> None:
        assert self.completion.is_valid(body) is taken
        assert parsed(parse_completion, msgspec.json.encode(body)) is taken
