"""Whether a passage answers at all: the sentence that seems to, read once more on its own.

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


def hear(generator: MiniGenerator, rows: Sequence[Row], encoded: Encoded) -> None:
    """Tell each row its p("not here")."""
    best = likeliest(encoded).tolist()
    for row, null, sentence in zip(rows, _twice(generator, rows, encoded, best), best, strict=True):
        row.hear(float(null), sentence)


def _twice(
    generator: MiniGenerator, rows: Sequence[Row], encoded: Encoded, best: Sequence[int]
) -> Tensor:
    """[B] p("not here"): the log odds of the passages as they are, and of their likeliest sentence,
    `best` of each row, without its neighbours, weighed as `generator.facts` says."""
    first = encoded.selection[:, NULL]
    facts = generator.facts
    shares = [facts.again if len(row.texts) > 1 else facts.again_alone for row in rows]
    twice = [n for n, row in enumerate(rows) if row.texts and best[n] != NULL and shares[n]]
    if not twice:
        return first.exp()
    laid = [[rows[n].sentence(best[n])] for n in twice]
    second = generator._model.encode(src.batch(laid)).selection[:, NULL]
    share = torch.tensor([shares[n] for n in twice])
    both = (1 - share) * log_odds(first[twice]) + share * log_odds(second)
    return first.exp().index_copy(0, torch.tensor(twice), torch.sigmoid(both))


def log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p; both are kept a millionth away from certain."""
    log_p = log_p.float().clamp(min=-14.0, max=-1e-6)
    return log_p - torch.log(-torch.expm1(log_p))
