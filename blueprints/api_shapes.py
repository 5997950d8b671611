"""Bodies that doors read and write as plain objects, as typed shapes: the API document is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from core.access.tiers import Source
from core.catalog import Tier
from core.chain.chain import ChainState
from core.complaints import LARGEST
from core.durability import Durability
from core.inference.native_body import MAX_TOKENS
from core.inference.requests import MAX_MESSAGES, MAX_MODEL_NAME, MAX_TEXT
from core.metrics.report_body import MAX_AGENT_ID, MAX_MODELS
from core.nodes.node import NodeKind
from core.wallet import ADDRESS

Address = Annotated[str, Meta(pattern=f"^{ADDRESS.pattern}$", description="An Ethereum address, in any letter case.")]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Count = Annotated[int, Meta(ge=0)]
Figure = Annotated[float, Meta(ge=0, le=LARGEST)]
Wei = Annotated[str, Meta(pattern="^[0-9]+$")]
Plm = Annotated[str, Meta(pattern=r"^[0-9]{1,60}(\.[0-9]{1,18})?$")]
SOURCE = "How well it is known: `stale` and `unknown` while the chain is away, `off` when nobody asks a chain."


# --- what clients send to /api/v1; fields that are not listed here are refused ---


class NonceRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Who wants to sign in."""

    address: Address


class VerifyRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The signature over one of the three texts that `/api/v1/auth/nonce` gave."""

    address: Address
    signature: Annotated[str, Meta(description="65 bytes (r, s, v), or the 64 bytes of ERC-2098, as hex behind 0x.")]


class NativeMessage(msgspec.Struct, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text


class NativeRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A prompt, or messages, or both: then the prompt is what the model sees."""

    model: Annotated[str, Meta(max_length=MAX_MODEL_NAME)]
    prompt: Text | None = None
    messages: Annotated[list[NativeMessage], Meta(max_length=MAX_MESSAGES)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = 0.7
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = 0.9
    stream: Annotated[bool | None, Meta(description="Has no effect: /api/v1/inference/stream streams.")] = None


class AgentPerformance(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """How an agent's requests went."""

    requests: Figure
    avg_latency: Annotated[float, Meta(ge=0, le=LARGEST, description="In milliseconds.")]
    errors: Figure


class AgentReportRequest(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What an agent reports of itself."""

    agent_id: Annotated[str, Meta(min_length=1, max_length=MAX_AGENT_ID)]
    address: Address
    models: Annotated[list[Annotated[str, Meta(max_length=MAX_MODEL_NAME)]], Meta(max_length=MAX_MODELS)]
    performance: AgentPerformance
    timestamp: Annotated[float, Meta(ge=0, le=LARGEST, description="Unix time in milliseconds.")]


# --- what /api/v1 answers ---


class Health(msgspec.Struct):
    """The process lives."""

    status: Literal["ok"]
    timestamp: Moment
    service: str
    version: str


class Readiness(msgspec.Struct):
    """Whether requests can be served, and what is missing."""

    status: Literal["ready", "unready"]
    redis: Annotated[
        str, Meta(description="`ok`, `unavailable`, or `refuses writes: ` and Redis' word for why, such as OOM.")
    ]
    nodes: Annotated[Count, Meta(description="Nodes online.")]
    background: Annotated[Count | None, Meta(description="Seconds since the background workers' last sign of life.")]
    leader: Annotated[str | None, Meta(description="Which background worker leads; null when none does.")]
    chain: Annotated[ChainState, Meta(description="The payment contract's chain; `off` without a contract.")]
    durability: Annotated[
        Durability | None,
        Meta(description="What survives the death of Redis: `L3` all, `L2` all but its last second, `L1` unknown."),
    ]
    settlement: Annotated[
        dict[str, Any] | None,
        Meta(description="How the settler is; null when there is none, and without a contract."),
    ]
    draining: Annotated[bool, Meta(description="Whether this process is about to end.")]


class SignInChallenge(msgspec.Struct, rename="camel"):
    """One nonce in three forms; the wallet signs any one of them."""

    nonce: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    message: Annotated[str, Meta(description="Plain text for personal_sign (EIP-191).")]
    typed_data: Annotated[dict[str, Any], Meta(description="Complete EIP-712 JSON for eth_signTypedData_v4.")]
    siwe: Annotated[str, Meta(description="A Sign-In with Ethereum message (ERC-4361) for personal_sign.")]


class Token(msgspec.Struct):
    """What a sign-in yields."""

    token: Annotated[str, Meta(description="A JWT. Send it as `Authorization: Bearer <token>`.")]


class Window(msgspec.Struct, rename="camel"):
    """The Free quota, in the fields of a 429."""

    used: Count
    limit: Count
    reset_at: Annotated[Moment | None, Meta(description="When there is one more; null while none is used.")]


class Account(msgspec.Struct):
    """The wallet that asks."""

    address: Annotated[Address, Meta(description="In lower case.")]
    tier: Tier
    tier_source: Annotated[Source, Meta(description=SOURCE)]
    balance_wei: Annotated[Wei | None, Meta(description="The deposit; null when there is none to be known.")]
    balance_plm: Plm | None
    rate_limit: Annotated[Window | None, Meta(description="The Free quota; null for Pro.")]


class Done(msgspec.Struct):
    """It is done."""

    status: Literal["ok"]


class AgentReportList(msgspec.Struct):
    """Each agent's last report, the oldest first."""

    reports: list[AgentReportRequest]


class SignedOut(msgspec.Struct):
    """The token is worth nothing from now on."""

    status: Literal["ok"]


class NativeModel(msgspec.Struct):
    """One model of the catalogue."""

    id: str
    name: str
    description: str
    max_tokens: Annotated[int, Meta(description="The most tokens that one answer may have.")]
    tier: Annotated[Tier, Meta(description="Who may use it: everyone, or only Pro users.")]
    nodes: Annotated[Count, Meta(description="Nodes that serve it: those online, and agents that report.")]
    status: Annotated[
        Literal["available", "degraded", "offline"],
        Meta(description="Degraded: only agents serve it most of whose requests fail."),
    ]


class NativeModelList(msgspec.Struct):
    """The whole catalogue."""

    models: list[NativeModel]


class NodeInfo(msgspec.Struct, rename="camel"):
    """One node of the network."""

    url: str
    address: Annotated[str, Meta(description="The owner's wallet in lower case; empty when it is not known.")]
    status: Literal["online", "offline"]
    last_health_check: Moment
    kind: Annotated[NodeKind | None, Meta(description="The protocol that it speaks; null until it was reached once.")]
    models: Annotated[list[str], Meta(description="Ids of the models that it serves.")]
    latency_ms: Annotated[float, Meta(ge=0, description="Of its answers to health checks, on average.")]
    first_token_ms: Annotated[float, Meta(ge=0, description="Until a stream's first text, on average; 0: unknown.")]
    tokens_per_second: Annotated[float, Meta(ge=0, description="Of one answer, on average; 0: unknown.")]
    benchmark_tokens_per_second: Annotated[float, Meta(ge=0, description="By its own word; 0: unknown.")]
    in_flight: Annotated[Count, Meta(description="Requests that it serves now, of this gateway's clients.")]
    failed_requests: Annotated[Count, Meta(description="Requests in a row that it failed.")]
    last_seen: Annotated[Moment | None, Meta(description="When it last answered anything.")]


class NodeDetail(NodeInfo, rename="camel"):
    """One node, with how its last health checks went."""

    consecutive_failures: Count


class NodeList(msgspec.Struct):
    """The nodes that are online."""

    total: Count
    nodes: list[NodeInfo]


class Served(msgspec.Struct):
    """What a node has served through this gateway, ever."""

    answers: Count
    prompt_tokens: Count
    completion_tokens: Count


class NodeFound(msgspec.Struct):
    """The node of this address."""

    found: Annotated[bool, Meta(extra_json_schema={"const": True})]
    node: NodeDetail
    served: Served


class NodeNotFound(msgspec.Struct):
    """No node is registered with this address."""

    found: Annotated[bool, Meta(extra_json_schema={"const": False})]
    message: str


class QuotaDetails(msgspec.Struct, rename="camel"):
    """The Free quota once it is used up."""

    used: Count
    limit: Count
    reset_at: Annotated[Moment, Meta(description="When the next request will be served.")]


class NativeError(msgspec.Struct, rename="camel", omit_defaults=True):
    """What went wrong. A body with several faults has a list of messages."""

    message: str | list[str]
    status_code: int
    error: Annotated[str, Meta(description="The status in words; some errors leave it out.")] | UnsetType = UNSET
    details: QuotaDetails | UnsetType = UNSET


# --- what /v1 answers ---


class OpenAIModel(msgspec.Struct):
    """One model, in OpenAI's shape."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModelList(msgspec.Struct):
    """The catalogue, in OpenAI's shape."""

    object: Literal["list"]
    data: list[OpenAIModel]


class OpenAIProblem(msgspec.Struct, omit_defaults=True):
    """What went wrong, for people and for programs."""

    message: str
    type: str
    param: Annotated[str | None, Meta(description="The field that is at fault.")]
    code: Annotated[str | None, Meta(description="A stable word for programs, such as `rate_limit_exceeded`.")]
    details: QuotaDetails | UnsetType = UNSET


class OpenAIError(msgspec.Struct):
    """OpenAI's error shape."""

    error: OpenAIProblem
