"""The regular report to the Oracle."""

from __future__ import annotations

from core.metrics.reporter import MetricsReporter


async def report(reporter: MetricsReporter) -> None:
    """Tells the Oracle what was served since the last time."""
    await reporter.report()
