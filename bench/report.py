"""The figures as a Markdown table and as bar charts."""

from __future__ import annotations

from xml.sax.saxutils import escape

from bench import page
from bench.measure import Figures
from bench.page import PAGE
from bench.scenarios import SCENARIOS

Table = dict[tuple[str, str], Figures]  # by peer and scenario
REFERENCES = ("bare", "nginx")
BAR, GAP, WIDTH, LABEL = 22, 8, 640, 130


def text(table: Table) -> str:
    """One Markdown table for each scenario, with ratios to the bare relay and to nginx."""
    return "\n".join(_scenario(table, name) for name in SCENARIOS if any(key[1] == name for key in table))


def write(table: Table, rounds: int, seconds: float) -> None:
    """Writes the tables into docs/benchmarks.md, and the charts beside it."""
    charts = PAGE.with_suffix("")
    charts.mkdir(exist_ok=True)
    names = [name for name in SCENARIOS if any(key[1] == name for key in table)]
    for name in names:
        (charts / f"{name}.svg").write_text(chart(table, name))
    pictures = "\n".join(f"![{SCENARIOS[name].title}](benchmarks/{name}.svg)\n" for name in names)
    note = f"Medians of {rounds} interleaved rounds of {seconds:g} s.\n"
    page.write("figures", f"{note}\n{text(table)}\n{pictures}")


def ratio(table: Table, peer: str, reference: str, scenario: str) -> float | None:
    """The peer's CPU in units of the reference's; None when one of them was not measured."""
    own, other = table.get((peer, scenario)), table.get((reference, scenario))
    return own.cpu_us / other.cpu_us if own and other and other.cpu_us else None


def chart(table: Table, scenario: str) -> str:
    """CPU by peer as an SVG of horizontal bars, the cheapest first."""
    bars = sorted((figures.cpu_us, peer) for (peer, name), figures in table.items() if name == scenario)
    most = max((cpu for cpu, _ in bars), default=0) or 1
    height = 30 + len(bars) * (BAR + GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}">',
        '<style>text{font:13px sans-serif}</style><rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="4" y="18" font-weight="bold">{escape(SCENARIOS[scenario].title)}</text>',
    ]
    for row, (cpu, peer) in enumerate(bars):
        y, width = 28 + row * (BAR + GAP), cpu / most * (WIDTH - LABEL - 80)
        colour = "#2563eb" if peer.startswith("gateway") else "#94a3b8"
        lines.append(f'<text x="4" y="{y + 16}">{escape(peer)}</text>')
        lines.append(f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>')
        lines.append(f'<text x="{LABEL + width + 6:.1f}" y="{y + 16}">{cpu:.1f}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _scenario(table: Table, scenario: str) -> str:
    rows = [
        f"### {SCENARIOS[scenario].title}\n",
        "| peer | CPU µs | × bare | × nginx | Redis µs | a second | p99 ms | first p99 ms | memory MB | errors |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (peer, name), one in table.items():
        if name == scenario:
            ratios = " | ".join(_times(ratio(table, peer, other, scenario)) for other in REFERENCES)
            rows.append(
                f"| {peer} | {one.cpu_us:.1f} | {ratios} | {one.redis_us:.1f} | {one.per_s:.0f} | {one.p99_ms:.1f} "
                f"| {one.first_p99_ms:.1f} | {one.memory_mb:.0f} | {one.errors} |"
            )
    return "\n".join([*rows, ""])


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
