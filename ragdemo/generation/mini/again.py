"""Whether a passage answers at all: the sentences that seem to, read once more on their own.

Beside its neighbours a sentence that shares a question's words is easily taken for its answer; on
its own it shows what it lacks. (Reading twice before refusing: Zhang et al. 2021,
https://arxiv.org/abs/2001.09694.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ragdemo.generation.mini import source as src
from ragdemo.generation.mini.model import NULL, Encoded
from ragdemo.generation.mini.row import Row, likeliest

if TYPE_CHECKING:
    from ragdemo.generation.mini.generator import MiniGenerator


def not_here(generator: MiniGenerator, rows: Sequence[Row], encoded: Encoded) -> Tensor:
    """[B] p("not here"). The log odds are those of the passages as they are, of what their
    likeliest sentences say without their neighbours, and of a passage alone of the likeliest with
    the one before it, which may say whom it is about; weighed as `generator.facts` says. Added is
    what the words of the question tell."""
    facts = generator.facts
    best = likeliest(encoded).tolist()
    whole = log_odds(encoded.selection[:, NULL])
    single = [len(row.texts) == 1 for row in rows]
    shares = [facts.again_alone if one else facts.again for one in single]
    before = [facts.before_alone if one else 0.0 for one in single]
    bare: list[list[src.Passage]] = [[] for _ in rows]
    led: list[list[src.Passage]] = [[] for _ in rows]  # by the sentence before
    for n, row in enumerate(rows):
        if row.texts and best[n] != NULL:
            if shares[n]:
                numbers = candidates(encoded.selection[n], len(row.texts))
                bare[n] = [row.sentence(number) for number in numbers]
            if before[n]:
                led[n] = [row.sentence(best[n], before=1)]
    alone, after_one = _read(generator, [*bare, *led], whole.repeat(2)).chunk(2)
    odds = whole + torch.tensor(shares) * (alone - whole)
    odds = odds + torch.tensor(before) * (after_one - whole)
    nats = torch.tensor([row.nats(number) for row, number in zip(rows, best, strict=True)])
    return torch.sigmoid(odds + nats)


def _read(
    generator: MiniGenerator, laid: Sequence[Sequence[src.Passage]], otherwise: Tensor
) -> Tensor:
    """[R] log odds that none of a row's passages answers, each read on its own; `otherwise` where
    a row has none."""
    places = torch.tensor([n for n, row in enumerate(laid) for _ in row], dtype=torch.long)
    if not len(places):
        return otherwise
    read = generator._model.encode(src.batch([[passage] for row in laid for passage in row]))
    together = torch.zeros(len(laid)).index_add(0, places, read.selection[:, NULL].float())
    return torch.where(places.bincount(minlength=len(laid)) > 0, log_odds(together), otherwise)


def candidates(selection: Tensor, passages: int) -> list[int]:
    """Numbers of the sentences to read again, from log p [S] of each: the likeliest, and of a
    passage alone the next, where there is one."""
    p, order = selection[1:].float().exp().sort(descending=True)
    return [int(n) + 1 for n, at in zip(order[: read_again(passages)], p, strict=False) if at]


def read_again(passages: int) -> int:
    """How many sentences of so many passages are read again at most."""
    return 2 if passages == 1 else 1


def log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p; both are kept a millionth away from certain."""
    log_p = log_p.float().clamp(min=-14.0, max=-1e-6)
    return log_p - torch.log(-torch.expm1(log_p))
