"""Which word piece comes next: for an answer, and for a question."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ragdemo.generation.mini import source as src
from ragdemo.generation.mini.decode import TINY
from ragdemo.generation.mini.surface import Place
from ragdemo.generation.sampling import pick
from ragdemo.types import Decoding

OPENERS = (
    "what who whom whose which when where why how is are was were do does did can could may must "
    "should will would has have in at for on from to by under within after"
).split()  # a question's first word


class Asker:
    """Writes one question: the `rank`-th likeliest of the words that open one, then the likeliest
    word pieces, never the same three twice."""

    def __init__(self, openers: list[int], rank: int) -> None:
        self._openers = openers
        self._rank = rank
        self._choose = Chooser(Decoding())
        self._sum = 0.0
        self.ids: list[int] = []
        self.done = False

    @property
    def mean(self) -> float:
        """log p per word piece, [SEP] included."""
        return self._sum / (len(self.ids) + 1)

    def __call__(self, probabilities: torch.Tensor) -> int:
        if self.done:
            return src.SEP
        if self.ids:
            token = self._choose(probabilities)
        else:
            opening = probabilities[self._openers].argsort(descending=True)
            token = self._openers[int(opening[self._rank])]
        self._sum += float(probabilities[token].clamp(min=TINY).log())
        if token == src.SEP:
            self.done = True
        else:
            self.ids.append(token)
            self.done = len(self.ids) >= src.QUESTION_TOKENS
        return token


class WholeWords:
    """Keeps words, names and figures whole that are copied from the passages: "##ing", "O'Neil",
    "£5.50", "7:30". Inside one, the piece that follows there follows here, and none is entered in
    the middle. Left free, a model this small joins the head of one name to the tail of another.
    """

    def __init__(
        self, tokens: Sequence[int], places: Sequence[Place | None], inner: torch.Tensor
    ) -> None:
        """`tokens` and `places` are the row's source; `inner` [V] is True for pieces that go on
        with a word."""
        self._tokens = tokens
        self._joined = joined(places)
        begins = {
            token
            for token, before in zip(tokens, [False, *self._joined], strict=False)
            if not before
        }
        self._barred = inner.clone()
        self._barred[list(set(tokens) - begins)] = True

    def pending(self, source: int) -> int | None:
        """The piece that must follow the one copied from this place, in the middle of a word."""
        inside = 0 <= source < len(self._joined) and self._joined[source]
        return self._tokens[source + 1] if inside else None

    def begin(self, probabilities: torch.Tensor) -> torch.Tensor:
        """p [V] where only a new word may begin."""
        return probabilities.masked_fill(self._barred, 0.0)


def joined(places: Sequence[Place | None]) -> list[bool]:
    """For each source token, whether the next one belongs to the same word, name or figure: no
    space between them, and both are letters or digits, or one is a mark that stands inside."""

    def beside(at: int) -> bool:
        here, following = places[at : at + 2]
        if here is None or following is None or here.passage != following.passage:
            return False
        # two pieces of one character ("돈") have the same place
        return here.end == following.start or here == following

    found: list[bool] = []
    for at in range(len(places) - 1):
        if not beside(at):
            found.append(False)
            continue
        here, following = places[at].text, places[at + 1].text
        word, next_word = here[-1:].isalnum(), following[:1].isalnum()
        mark = following in _INSIDE and at + 2 < len(places) and beside(at + 1)
        found.append(
            (word and next_word)
            or (word and mark and places[at + 2].text[:1].isalnum())
            or (next_word and here in _INSIDE and bool(found) and found[-1])
            or (here in _BEFORE_FIGURES and following[:1].isdigit())
            or (following == "%" and here[-1:].isdigit())
        )
    return [*found, False]


_INSIDE = frozenset("'’.,:/-&@_")
_BEFORE_FIGURES = frozenset("£$€¥")


class Chooser:
    """Greedy or sampled, but never the same three word pieces twice: a model this small would
    otherwise go round in circles when it answers from memory (as BART does by default)."""

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding
        self._random = torch.Generator().manual_seed(decoding.seed)
        self._written: list[int] = []
        self._after: dict[tuple[int, int], list[int]] = {}

    def __call__(self, probabilities: torch.Tensor) -> int:
        logs = probabilities.clamp(min=1e-12).log()
        last = tuple(self._written[-2:])
        if barred := self._after.get(last):
            logs[barred] = -torch.inf
        token = pick(logs, self._decoding, self._random)
        self.note(token)
        return token

    def note(self, token: int) -> None:
        """A piece that was written, chosen here or not."""
        last = tuple(self._written[-2:])
        if len(last) == 2:
            self._after.setdefault(last, []).append(token)
        self._written.append(token)
