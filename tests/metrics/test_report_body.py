"""Agents' reports: what is taken, what is refused and in which words."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import msgspec
import pytest

from blueprints.api_document import document
from core.auth.keys import OracleKey
from core.complaints import LARGEST
from core.errors import InvalidRequest, KeyRefused
from core.metrics.report_body import MAX_AGENT_ID, MAX_MODELS, parse

ADDRESS = "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955"
GOOD: dict[str, Any] = {
    "agentId": "agent-1",
    "address": ADDRESS,
    "models": ["meta-llama/Llama-3.1-8B"],
    "performance": {"requests": 1, "avgLatency": 10.5, "errors": 0},
    "timestamp": 1795375871895,
}
WELL = GOOD["performance"]
REFUSED: dict[str, list[Any]] = {
    "agentId": [None, "", 1, "a" * (MAX_AGENT_ID + 1), ["a"]],
    "address": [None, "", 1, "14dC79964da2C08b23698B3D3cc7Ca32193d9955", "0x12"],
    "models": [None, "bigscience/bloom-560m", {}, [1], [None], ["m" * 101], ["m"] * (MAX_MODELS + 1)],
    "performance": [None, [], 1, "x", {}, WELL | {"foo": 1}, WELL | {"errors": -1}, WELL | {"requests": "1"}],
    "timestamp": [None, "2026-11-22T19:31:11.909Z", -1, True, LARGEST + 1, 10**400],
    "foo": [1],
}


class TestParse:
    def test_gives_back_just_what_was_sent(self) -> None:
        assert msgspec.to_builtins(parse(GOOD)) == GOOD | {"models": tuple(GOOD["models"])}

    @pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in REFUSED.items() for v in values])
    def test_refuses_what_is_malformed(self, field: str, value: Any) -> None:
        with pytest.raises(InvalidRequest) as refused:
            parse(GOOD | {field: value})

        assert all(field in complaint for complaint in refused.value.message)

    @pytest.mark.parametrize("field", sorted(GOOD))
    def test_every_field_must_be_there(self, field: str) -> None:
        with pytest.raises(InvalidRequest):
            parse({name: value for name, value in GOOD.items() if name != field})

    def test_complains_as_the_former_service_did(self) -> None:
        with pytest.raises(InvalidRequest) as refused:
            parse({"foo": 1, "performance": {"requests": -1}})

        assert refused.value.message == [
            "property foo should not exist",
            "agentId must be shorter than or equal to 100 characters",
            "agentId must be a string",
            "address must be an Ethereum address",
            "models must be an array",
            "performance.requests must not be less than 0",
            f"performance.avgLatency must not be greater than {LARGEST}",
            "performance.avgLatency must not be less than 0",
            "performance.avgLatency must be a number conforming to the specified constraints",
            f"performance.errors must not be greater than {LARGEST}",
            "performance.errors must not be less than 0",
            "performance.errors must be a number conforming to the specified constraints",
            f"timestamp must not be greater than {LARGEST}",
            "timestamp must not be less than 0",
            "timestamp must be a number conforming to the specified constraints",
        ]

    def test_the_document_refuses_the_same(self) -> None:
        schemas = document()["components"]
        root = {"$ref": "#/components/schemas/AgentReportRequest", "components": schemas}
        validator = jsonschema_rs.Draft202012Validator(root)

        assert validator.is_valid(GOOD)
        for field, values in REFUSED.items():
            for value in values:
                assert not validator.is_valid(GOOD | {field: value}), (field, value)


class TestWell:
    @pytest.mark.parametrize(
        ("requests", "errors", "well"), [(0, 0, True), (10, 5, True), (10, 6, False), (0, 1, False)]
    )
    def test_is_who_serves_at_least_every_other_request(self, requests: int, errors: int, *, well: bool) -> None:
        report = parse(GOOD | {"performance": {"requests": requests, "avgLatency": 1, "errors": errors}})

        assert report.is_well is well


class TestKey:
    def test_opens_the_door_and_no_other_does(self) -> None:
        OracleKey("secret").ensure("secret")
        for wrong in ("", "secre", "secrets", "schl\udcfcssel"):
            with pytest.raises(KeyRefused, match="Invalid API key"):
                OracleKey("secret").ensure(wrong)

    @pytest.mark.parametrize("given", ["", "secret", "None"])
    def test_that_is_not_configured_opens_to_nobody(self, given: str) -> None:
        with pytest.raises(KeyRefused, match="Oracle API key not configured"):
            OracleKey(None).ensure(given)
