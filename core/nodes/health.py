"""What a probe changes about a node: pure transitions, so that every rule can be seen and tested alone."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from core.nodes.averages import follow
from core.nodes.node import Node, NodeKind

FALL = 3  # failed probes in a row that take a node offline; patient, since busy agents can't answer probes
RISE = 2  # good probes in a row that bring it back after a fall; the very first time one is enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a ready node told about itself."""

    kind: NodeKind
    models: dict[str, str]
    streams: bool = True
    address: str = ""
    latency_ms: float = 0.0


def after_good(node: Node, report: Report, now: float) -> Node:
    """The node after a probe that found it ready; `now` is unix seconds."""
    is_new = node.kind is None
    return msgspec.structs.replace(
        node,
        address=node.address or report.address,
        kind=report.kind,
        models=report.models,
        streams=report.streams,
        online=node.online or is_new or node.successes + 1 >= RISE,
        failures=0,
        successes=node.successes + 1,
        last_check=now,
        last_seen=now,
        latency_ms=round(follow(node.latency_ms, report.latency_ms), 1),
        problem="",
    )


def after_silence(node: Node, now: float) -> Node:
    """The node after a probe that it had no time to answer, since it was just sending us text."""
    return msgspec.structs.replace(node, last_check=now)


def after_bad(node: Node, problem: str, now: float, *, certain: bool = False) -> Node:
    """The node after a failed probe. `certain`: it says itself that it can't serve, so there is nothing to wait for."""
    failures = node.failures + 1
    return msgspec.structs.replace(
        node,
        online=node.online and failures < FALL and not certain,
        failures=failures,
        successes=0,
        last_check=now,
        problem=problem,
    )
