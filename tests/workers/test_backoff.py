"""Pauses before a restart."""

from __future__ import annotations

from workers.backoff import Backoff


class TestBackoff:
    def test_doubles_up_to_15_seconds(self) -> None:
        backoff = Backoff()

        assert [backoff.after(lived_s=1) for _ in range(8)] == [0.25, 0.5, 1, 2, 4, 8, 15, 15]

    def test_begins_anew_after_a_long_life(self) -> None:
        backoff = Backoff()
        for _ in range(5):
            backoff.after(lived_s=1)

        assert [backoff.after(lived_s=30), backoff.after(lived_s=1)] == [0.25, 0.5]
