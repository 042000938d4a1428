"""Which word piece comes next: for an answer, and for a question."""

from __future__ import annotations

import torch

from ragdemo.generation.mini import source as src
from ragdemo.generation.mini.decode import TINY
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
        if len(last) == 2:
            self._after.setdefault(last, []).append(token)
        self._written.append(token)
        return token
