"""`python -m tests.chaos`: one run; exit code 1 unless nothing is lost, nothing double, and all is drained."""

from __future__ import annotations

import argparse
import sys

from tests.chaos.mutations import MUTATIONS
from tests.chaos.plan import POINTS, Plan
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.supervisor import Outcome, run


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30, help="of trouble, before all is healed and drained")
    parser.add_argument(
        "--point", choices=POINTS, action="append", help="where processes must die (default: everywhere)"
    )
    parser.add_argument("--settlers", type=int, default=2)
    parser.add_argument("--redis-kills", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--scenario", choices=SCENARIOS, help="what this precaution is there for, instead of chance")
    parser.add_argument("--mutation", choices=MUTATIONS, help="do without this precaution in its scenario")
    args = parser.parse_args()
    plan = Plan(
        seed=args.seed,
        seconds=args.seconds,
        points=tuple(args.point or POINTS),
        settlers=args.settlers,
        redis_kills=args.redis_kills,
        scenario=args.scenario or args.mutation,
        mutation=args.mutation,
    )
    outcome = run(plan)
    report(outcome)
    return 0 if outcome.verdict.is_good else 1


def report(outcome: Outcome) -> None:
    """What was wrong first, then the one line."""
    for fault in outcome.verdict.faults[:20]:
        print(f"  {fault}")
    for point in outcome.verdict.missed:
        print(f"  nobody died at {point}")
    print(outcome, flush=True)


if __name__ == "__main__":
    sys.exit(main())
