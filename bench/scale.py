"""Cost against load: streams, nodes, workers, instances over one Redis. A table: `python -m bench.scale`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import page
from bench.gateway import gateway
from bench.measure import Figures, measured
from bench.peer import NotReady, Peer, Start
from bench.processes import LOAD_CORE, PEER_CORE
from bench.scenarios import SCENARIOS
from workers.embedded_redis import embedded_redis

BOTH = (PEER_CORE, LOAD_CORE)
STREAMS, NODES, WORKERS, INSTANCES = (1, 10, 100, 1000, 2000), (1, 10, 1000), (1, 2), (1, 2)


@contextmanager
def instances(nodes: Sequence[int], folder: Path, count: int) -> Iterator[Peer]:
    """`count` gateways over one Redis; the first one is loaded, and the others run along."""
    with ExitStack() as stack:
        url = stack.enter_context(embedded_redis(folder / "shared"))
        peers = []
        for number in range(count):
            home = folder / str(number)
            home.mkdir()
            peers.append(stack.enter_context(gateway(nodes, home, redis_url=url)))
        yield peers[0]


def rows(seconds: float) -> Iterator[tuple[str, Callable[[], Figures]]]:
    """What is varied, and its measurement."""
    paced, whole = SCENARIOS["paced"], SCENARIOS["json"]
    for count in STREAMS:
        yield f"{count} streams at 50/s", partial(measured, gateway, replace(paced, connections=count), seconds)
    for count in NODES:
        yield f"JSON, {count} nodes", partial(measured, gateway, whole, seconds, count)
    for count in WORKERS:
        spread: Start = partial(gateway, workers=count, cores=BOTH)
        yield f"JSON, {count} workers on two cores", partial(measured, spread, whole, seconds)
    for count in INSTANCES:
        together: Start = partial(instances, count=count)
        yield f"JSON, {count} instances over one Redis", partial(measured, together, whole, seconds)


def main() -> None:
    """Measures one row after the other and prints it at once; all of them are written into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--only", default="", help="rows whose name contains this; they are only printed")
    options = parser.parse_args()
    lines = ["| load | CPU µs | Redis µs | a second | p99 ms | first p99 ms | memory MB | errors |", "|---" * 8 + "|"]
    print("\n".join(lines))
    for name, measure in rows(options.seconds):
        if options.only in name:
            lines.append(_row(name, measure))
            print(lines[-1], flush=True)
    if not options.only:
        page.write("scale", "\n".join(lines))


def _row(name: str, measure: Callable[[], Figures]) -> str:
    try:
        one = measure()
    except NotReady as problem:
        return f"| {name} | left out: {str(problem).splitlines()[0]} |"
    costs, delays = f"{one.cpu_us:.1f} | {one.redis_us:.1f}", f"{one.p99_ms:.1f} | {one.first_p99_ms:.1f}"
    return f"| {name} | {costs} | {one.per_s:.0f} | {delays} | {one.memory_mb:.0f} | {one.errors} |"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
