"""docs/benchmarks.md: written by hand but for its parts, which the benchmark's commands fill."""

from __future__ import annotations

from bench.processes import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
END = "<!-- end -->"


def replaced(page: str, part: str, text: str) -> str:
    """The page with the text between the part's mark and its end. Raises ValueError when the mark is not there."""
    mark = f"<!-- {part} -->"
    before, found, rest = page.partition(mark)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"{PAGE.name} has no part {part}")
    return f"{before}{mark}\n\n{text.strip()}\n\n{END}{after}"


def write(part: str, text: str) -> None:
    """Fills a part."""
    PAGE.write_text(replaced(PAGE.read_text(), part, text))
