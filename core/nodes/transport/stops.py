"""Stop sequences for nodes that know none: cuts their text, holding back as little of it as can be."""

from __future__ import annotations


class StopFilter:
    """
    Passes text on until a stop sequence is complete, as if it were looked for after each character.

    The sequence that is complete first cuts (of several that end at the same place, the one that begins first); it
    and what follows is dropped. Only text that may be the beginning of a sequence waits for the next piece.
    """

    __slots__ = ("_held", "_stops", "hit")

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.hit = False  # a stop sequence was met: nothing passes any more

    def feed(self, piece: str) -> str:
        """What may be passed on now, perhaps nothing."""
        if not self._stops:
            return piece
        if self.hit:
            return ""
        text = self._held + piece
        found = min((_span(text, stop) for stop in self._stops if stop in text), default=None)
        if found is not None:
            self.hit, self._held = True, ""
            return text[: found[1]]
        held = max(_beginning(text, stop) for stop in self._stops)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """What was held back and, as the text has ended, is no stop sequence."""
        rest, self._held = self._held, ""
        return rest


def _span(text: str, stop: str) -> tuple[int, int]:
    start = text.find(stop)
    return start + len(stop), start


def _beginning(text: str, stop: str) -> int:
    """How many characters at the end of the text are a beginning of the sequence, at most all but its last one."""
    if not text:
        return 0
    last = text[-1]
    length = stop.rfind(last, 0, min(len(stop) - 1, len(text))) + 1
    while length and not text.endswith(stop[:length]):
        length = stop.rfind(last, 0, length - 1) + 1
    return length
