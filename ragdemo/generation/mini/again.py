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
    """[B] p("not here"). The log odds are those of the passages as they are and of what their
    likeliest sentences say without their neighbours, weighed as `generator.facts` says, and what
    the words of the question tell."""
    facts = generator.facts
    best = likeliest(encoded).tolist()
    shares = torch.tensor([facts.again if len(r.texts) > 1 else facts.again_alone for r in rows])
    odds = log_odds(encoded.selection[:, NULL])
    reads = [
        (n, number)
        for n, row in enumerate(rows)
        if row.texts and best[n] != NULL and shares[n]
        for number in candidates(encoded.selection[n], len(row.texts))
    ]
    if reads:
        laid = [[rows[n].sentence(number)] for n, number in reads]
        second = generator._model.encode(src.batch(laid)).selection[:, NULL].float()
        places = torch.tensor([n for n, _ in reads])
        # none of them answers: their log p add up
        together = torch.zeros(len(rows)).index_add(0, places, second)
        read = torch.zeros(len(rows), dtype=torch.bool).index_fill(0, places, True)
        odds = torch.where(read, (1 - shares) * odds + shares * log_odds(together), odds)
    nats = torch.tensor([row.nats(number) for row, number in zip(rows, best, strict=True)])
    return torch.sigmoid(odds + nats)


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
