"""What a run has shown: the clients' record, the ledger and the chain, held against each other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from core import redis_keys
from tests.chaos.record import Answer
from tests.chaos.servers import Servers


@dataclass
class Verdict:
    """Tokens that nobody will ever pay, and tokens that somebody pays for nothing or twice."""

    drained: bool
    answers: int = 0
    tokens: int = 0
    lost: int = 0
    double: int = 0
    faults: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)  # points at which nobody died

    @property
    def is_good(self) -> bool:
        """Whether everything is as it must be."""
        return self.drained and not (self.lost or self.double or self.faults or self.missed)

    def charge(self, what: str, expected: int, found: int) -> None:
        """`found` tokens where there should be `expected`."""
        if found < expected:
            self.lost += expected - found
            self.faults.append(f"{what}: {found} of {expected} tokens")
        elif found > expected:
            self.double += found - expected
            self.faults.append(f"{what}: {found} tokens for {expected}")


def compare(servers: Servers, *, drained: bool) -> Verdict:
    """Everybody is quiet by now."""
    verdict = Verdict(drained)
    charged = _charges(servers)
    answers = servers.record.answers()
    for request_id, answer in answers.items():
        _judge(verdict, request_id, answer, charged.get(request_id, ("", 0))[1])
    for request_id in charged.keys() - answers.keys():
        verdict.charge(f"{request_id}, which nobody asked for", 0, charged[request_id][1])
    by_user: Counter[str] = Counter()
    for user, tokens in charged.values():
        by_user[user] += tokens
    debited = servers.market.debited()
    for user in sorted(by_user.keys() | debited.keys()):
        verdict.charge(f"the chain, {user}", by_user[user], debited[user])
        verdict.charge(f"the credit, {user}", by_user[user], _cum(servers, user))
    return verdict


def _judge(verdict: Verdict, request_id: str, answer: Answer, charged: int) -> None:
    if answer.delivered is not None:
        verdict.answers += 1
        verdict.tokens += answer.delivered
        verdict.charge(request_id, answer.delivered, charged)
    else:
        verdict.charge(f"{request_id}, which broke off", max(answer.least, min(charged, answer.most)), charged)


def _charges(servers: Servers) -> dict[str, tuple[str, int]]:
    """By request id, of those that are committed."""
    prefix = redis_keys.charge("")
    found: dict[str, tuple[str, int]] = {}
    for key in servers.client.scan_iter(f"{prefix}*", count=1000):
        charge: Any = servers.client.hgetall(key)
        if charge["state"] == "committed":
            found[key.removeprefix(prefix)] = (charge["user"], int(charge["tokens"]))
    return found


def _cum(servers: Servers, user: str) -> int:
    return int(servers.client.hget(redis_keys.credit(user), "cum") or 0)
