"""The regression guard: the gateway against the bare relay in one run; fails when a ratio is over its limit."""

from __future__ import annotations

import tomllib

from bench.processes import ROOT
from bench.report import Table, ratio, text
from bench.run import rounds

ROUNDS, SECONDS = 3, 4


def missed(table: Table, limits: dict[str, float], margin: float) -> list[str]:
    """A sentence for each scenario whose ratio is over its limit plus the margin, was not measured, or had errors."""
    found = []
    for scenario, limit in limits.items():
        value = ratio(table, "gateway", "bare", scenario)
        if value is None or table["gateway", scenario].errors:
            found.append(f"{scenario}: not measured without errors")
        elif value > limit * (1 + margin):
            found.append(f"{scenario}: {value:.2f} x bare, the limit is {limit:.2f} and {margin:.0%} upon it")
    return found


def main() -> None:
    """Measures, prints, and ends with 1 when a limit is missed."""
    stated = tomllib.loads((ROOT / "bench" / "limits.toml").read_text())
    table = rounds(["gateway", "bare"], list(stated["limits"]), ROUNDS, SECONDS)
    print("\n" + text(table))
    if problems := missed(table, stated["limits"], stated["margin"]):
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
