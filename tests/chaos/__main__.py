"""`python -m tests.chaos`: exit code 1 unless nothing is lost, nothing is double, and all is drained."""

from __future__ import annotations

import argparse
import sys

from tests.chaos.mutations import MUTATIONS
from tests.chaos.plan import POINTS, Plan
from tests.chaos.rounds import all_mutations, all_seeds, report
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.supervisor import run


def main() -> int:
    """The exit code."""
    args = _arguments()
    plan = Plan(
        seed=args.seed,
        seconds=args.seconds,
        points=tuple(args.point or POINTS),
        settlers=args.settlers,
        redis_kills=args.redis_kills,
        scenario=args.scenario or args.mutation,
        mutation=args.mutation,
    )
    if args.mutations:
        return int(not all_mutations(plan))
    if args.seeds:
        return int(not all_seeds(plan, args.seeds))
    outcome = run(plan)
    report(outcome)
    return int(not outcome.verdict.is_good)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=0, help="so many runs, from --seed on")
    parser.add_argument("--seconds", type=float, default=20, help="of trouble, before all is healed and drained")
    parser.add_argument(
        "--point", choices=POINTS, action="append", help="where processes must die (default: everywhere)"
    )
    parser.add_argument("--settlers", type=int, default=2)
    parser.add_argument("--redis-kills", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--scenario", choices=SCENARIOS, help="what this precaution is there for, instead of chance")
    parser.add_argument("--mutation", choices=MUTATIONS, help="the same, without the precaution")
    parser.add_argument("--mutations", action="store_true", help="all scenarios, each with and without")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
