"""Word pieces and where they were copied from -> text as people write it.

The word pieces are lower case and lose spacing. A copied piece brings back its own characters, so
numbers, units and names come out as the passage writes them; a written one stays lower case, and
the first letter of the answer is a capital. The text only ever grows, so that it can be streamed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ragdemo.types import Copied

_NO_SPACE_BEFORE = frozenset(",.;:!?)]}%'’”…/-–")
_NO_SPACE_AFTER = frozenset("([{£$€'‘“/-–#")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a source token stands: `passage` is -1 in the question or a title."""

    passage: int
    start: int
    end: int
    text: str  # its characters, in their own case


@dataclass
class Writer:
    """Collects one answer."""

    sources: tuple[str, ...]  # the passages' texts, by number
    text: str = ""
    _runs: list[list[int]] = field(default_factory=list)  # start, end, passage, from, to
    _last: Place | None = None

    def add(self, piece: str, place: Place | None) -> None:
        """`piece` is the vocabulary's, "##" and all; `place` is where it was copied from."""
        if place and place == self._last and piece.startswith("##"):
            return  # one character in several pieces ("돈"): the first has brought all of it
        surface = place.text if place else piece.removeprefix("##")
        gap = self._gap(piece, place, surface)
        # some letters have no single capital ("ß"): those stay
        if not self.text and len(surface[:1].upper()) == 1:
            surface = surface[:1].upper() + surface[1:]
        start = len(self.text) + len(gap)
        self.text += gap + surface
        if place and place.passage >= 0:
            run = self._runs[-1] if self._runs else None
            joined = self._last and run and run[2] == place.passage and run[4] == self._last.end
            if (
                joined
                and place.start >= run[4]
                and place.start - run[4] <= 2
                and run[1] == (start - len(gap))
            ):
                run[1], run[4] = len(self.text), place.end
            else:
                self._runs.append([start, len(self.text), place.passage, place.start, place.end])
        self._last = place

    def _gap(self, piece: str, place: Place | None, surface: str) -> str:
        if not self.text:
            return ""
        last = self._last
        if place and last and last.passage == place.passage >= 0 and last.end <= place.start:
            between = self.sources[place.passage][last.end : place.start]
            if not between.strip():  # neighbours in the source keep the source's spacing
                return " " if between else ""
        if piece.startswith("##") or surface[0] in _NO_SPACE_BEFORE:
            return ""
        return "" if self.text[-1] in _NO_SPACE_AFTER else " "

    def cut(self, length: int) -> None:
        """Take back what stands beyond `length`."""
        self.text = self.text[:length]
        self._runs = [
            [start, min(end, length), passage, origin, to - max(0, end - length)]
            for start, end, passage, origin, to in self._runs
            if start < length
        ]

    @property
    def copied(self) -> tuple[Copied, ...]:
        return tuple(Copied(a, b, p, c, d) for a, b, p, c, d in self._runs)
