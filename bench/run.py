"""Measures peers in turn, several rounds interleaved, and prints and writes the table: `python -m bench.run`."""

from __future__ import annotations

import argparse
from dataclasses import fields
from statistics import median

from bench import page, rest
from bench.measure import Figures, measured
from bench.peer import NotReady
from bench.peers import PEERS
from bench.report import Table, text, write
from bench.scenarios import SCENARIOS

QUICK = ("json", "fast", "paced")
QUICK_PEERS = ("gateway", "bare", "nginx", "vllm-router")


def rounds(peers: list[str], scenarios: list[str], count: int, seconds: float) -> Table:
    """Medians of `count` rounds, peer after peer in each; a peer that can't be started is left out with a word."""
    found: dict[tuple[str, str], list[Figures]] = {}
    missing: set[str] = set()
    for _ in range(count):
        for scenario in scenarios:
            for peer in peers:
                if peer in missing or scenario not in PEERS[peer].scenarios:
                    continue
                try:
                    figures = measured(PEERS[peer].start, SCENARIOS[scenario], seconds)
                except NotReady as problem:
                    print(f"{peer}: left out: {problem}", flush=True)
                    missing.add(peer)
                    continue
                print(f"{peer:15} {scenario:10} {figures.cpu_us:8.1f} µs, {figures.errors} errors", flush=True)
                found.setdefault((peer, scenario), []).append(figures)
    return {key: _median(all_of_it) for key, all_of_it in found.items()}


def _median(figures: list[Figures]) -> Figures:
    middle = {field.name: median(getattr(one, field.name) for one in figures) for field in fields(Figures)}
    return Figures(**{**middle, "errors": sum(one.errors for one in figures)})


def _names(known: list[str], given: str) -> list[str]:
    names = given.split(",")
    if unknown := set(names) - set(known):
        raise SystemExit(f"Not known: {', '.join(sorted(unknown))}. Known: {', '.join(known)}")
    return names


def main() -> None:
    """Reads the options, measures, prints; a run of everything also writes docs/benchmarks.md and its charts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of the HTTP scenarios; writes nothing")
    parser.add_argument("--peers", default="", help="some of them; the table is only printed")
    parser.add_argument("--scenarios", default="", help="some of them; the table is only printed")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    options = parser.parse_args()
    usual, usual_peers = (QUICK, QUICK_PEERS) if options.quick else (SCENARIOS, PEERS)
    peers = _names(list(PEERS), options.peers or ",".join(usual_peers))
    scenarios = _names(list(SCENARIOS), options.scenarios or ",".join(usual))
    count, seconds = options.rounds or (1 if options.quick else 3), options.seconds or (4 if options.quick else 10)
    table = rounds(peers, scenarios, count, seconds)
    print("\n" + text(table))
    if not (options.quick or options.peers or options.scenarios):
        write(table, count, seconds)
        figures = rest.text(rest.rest())
        print(figures)
        page.write("rest", figures)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
