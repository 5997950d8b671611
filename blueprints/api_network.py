"""The API document's parts on models, nodes, health, and on itself."""

from __future__ import annotations

from blueprints import api_shapes as plain
from blueprints.api_answers import answer, body, native_errors, text
from blueprints.api_operation import MODEL_ID, WALLET, Operation, in_header, in_path
from blueprints.api_schemas import ref

NODE = "0xe239cdc5fbe977a8a141b72194d3cf8c41bc5bc6"
ALIVE = {200: answer("The process lives.", body(plain.Health))}
STATS = {"application/json": {"schema": {"oneOf": [ref(plain.NodeFound), ref(plain.NodeNotFound)]}}}

MODELS = (
    Operation(
        route="get /api/v1/models",
        id="listModels",
        summary="List the models, and how many nodes serve each",
        answers={200: answer("The catalogue.", body(plain.NativeModelList)), **native_errors(503)},
    ),
    Operation(
        route="get /api/v1/models/{model_id}",
        id="getModel",
        summary="One model",
        security=WALLET,
        parameters=(MODEL_ID,),
        answers={200: answer("The model.", body(plain.NativeModel)), **native_errors(400, 401, 404, 413, 503)},
    ),
)
NODES = (
    Operation(
        route="get /api/v1/nodes",
        id="listNodes",
        summary="List the nodes that are online",
        answers={200: answer("The nodes.", body(plain.NodeList)), **native_errors(503)},
    ),
    Operation(
        route="get /api/v1/nodes/{address}/stats",
        id="getNodeStats",
        summary="What one node has served",
        parameters=(in_path("address", "The node's wallet, in any letter case.", NODE),),
        answers={200: answer("The node, or that it is not known.", STATS), **native_errors(400, 404, 413, 503)},
    ),
)
ORACLE_KEY = in_header("x-api-key", "The key that the network's programs share with the Oracle.", "a-shared-key")
AGENT_REPORT = {
    "agentId": "agent-1",
    "address": NODE,
    "models": ["meta-llama/Llama-3.1-8B"],
    "performance": {"requests": 100, "avgLatency": 350, "errors": 1},
    "timestamp": 1_780_000_000_000,
}
REPORTS = (
    Operation(
        route="post /api/v1/report",
        id="report",
        summary="Report as an agent",
        description="It stands for five minutes, in place of the agent's last one; `GET /api/v1/models` follows it.",
        parameters=(ORACLE_KEY,),
        body=body(plain.AgentReportRequest, report=AGENT_REPORT),
        answers={201: answer("It is taken.", body(plain.Done)), **native_errors(400, 401, 408, 413, 503)},
    ),
    Operation(
        route="get /api/v1/report/agents",
        id="listReports",
        summary="The agents' reports of the last five minutes",
        parameters=(ORACLE_KEY,),
        answers={200: answer("The reports.", body(plain.AgentReportList)), **native_errors(401, 503)},
    ),
)
HEALTH = (
    Operation(
        route="get /health",
        id="getHealth",
        summary="Whether this process lives",
        description="It asks nobody else, and answers while the gateway shuts down too.",
        answers=ALIVE,
    ),
    Operation(
        route="get /ready",
        id="getReadiness",
        summary="Whether requests can be served",
        answers={
            200: answer("They can.", body(plain.Readiness)),
            503: answer("They can't; the body says what is missing.", body(plain.Readiness)),
        },
    ),
    Operation(
        route="get /",
        id="getRoot",
        summary="Health, where the former service had it",
        answers=ALIVE | native_errors(503),
    ),
    Operation(
        route="get /api/v1/health",
        id="getApiHealth",
        summary="Health, where the former service had it",
        answers=ALIVE | native_errors(503),
    ),
)
DOCUMENT = (
    Operation(
        route="get /api/docs",
        id="getPage",
        summary="This page",
        answers={200: answer("The page.", text("text/html")), **native_errors(503)},
    ),
    Operation(
        route="get /api/docs/openapi.json",
        id="getDocument",
        summary="This document, for programs",
        answers={200: answer("OpenAPI 3.1.", {"application/json": {"schema": {"type": "object"}}})}
        | native_errors(503),
    ),
    Operation(
        route="get /api/docs/assets/{name}",
        id="getAsset",
        summary="A file of the page",
        parameters=(in_path("name", "One of those that the page names.", "swagger-ui.css"),),
        answers={200: answer("The file.", text("text/css", "text/javascript", "image/png"))}
        | native_errors(400, 404, 413, 503),
    ),
)
