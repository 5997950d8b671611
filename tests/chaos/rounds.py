"""Many runs, and what they show together."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tests.chaos.mutations import MUTATIONS
from tests.chaos.plan import Plan
from tests.chaos.supervisor import Outcome, run

DOOMED_DRAIN_S = 20.0  # for a settler that will not come to an end


def report(outcome: Outcome) -> None:
    """What was wrong first, then the one line."""
    for fault in outcome.verdict.faults[:20]:
        print(f"  {fault}")
    for point in outcome.verdict.missed:
        print(f"  nobody died at {point}")
    print(outcome, flush=True)


def all_seeds(plan: Plan, seeds: int) -> bool:
    """Runs the plan with so many seeds, from its own on; whether all is well."""
    kills: Counter[str] = Counter()
    troubles: Counter[str] = Counter()
    answers = tokens = lost = double = bad = 0
    for seed in range(plan.seed, plan.seed + seeds):
        outcome = run(replace(plan, seed=seed))
        report(outcome)
        kills += outcome.kills
        troubles += outcome.troubles + Counter({f"rpc {name}": number for name, number in outcome.endpoint.items()})
        verdict = outcome.verdict
        answers, tokens = answers + verdict.answers, tokens + verdict.tokens
        lost, double, bad = lost + verdict.lost, double + verdict.double, bad + (not verdict.is_good)
    print(f"troubles: {', '.join(f'{number} {name}' for name, number in sorted(troubles.items()))}")
    killed = ", ".join(f"{number} {kind}" for kind, number in sorted(kills.items()))
    print(
        f"{seeds} runs, {bad} bad: {answers} answers, {tokens} tokens; killed: {killed}; lost {lost}, double {double}"
    )
    return bad == 0


def all_mutations(plan: Plan) -> bool:
    """Plays each scenario with its precaution and without; whether the one is well and the other is found out."""
    missed = []
    for name in MUTATIONS:
        whole = run(replace(plan, scenario=name))
        mutant = run(replace(plan, scenario=name, mutation=name, drain_s=DOOMED_DRAIN_S))
        report(whole)
        print(f"  without it: {mutant}", flush=True)
        if not whole.verdict.is_good or mutant.verdict.is_good:
            missed.append(name)
        print(f"{name}: {'NOT SHOWN' if name in missed else 'shown'}", flush=True)
    print(f"{len(MUTATIONS) - len(missed)} of {len(MUTATIONS)} mutations are found")
    return not missed
