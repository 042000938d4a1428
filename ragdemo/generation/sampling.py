"""Which token comes next: greedy, or drawn from the nucleus. Pure functions of one row."""

from __future__ import annotations

import torch

from ragdemo.types import Decoding


def nucleus(probabilities: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The smallest set of likeliest tokens that holds `top_p`, likeliest first; never empty.

    Nucleus sampling, Holtzman et al. 2020 (https://arxiv.org/abs/1904.09751).
    [vocabulary] -> (probabilities [kept], token ids [kept]); probabilities are not rescaled.
    """
    ordered, tokens = probabilities.sort(descending=True, stable=True)
    before = ordered.cumsum(0) - ordered  # what the tokens ahead of this one hold already
    kept = max(1, int((before < top_p).sum()))
    return ordered[:kept], tokens[:kept]


def pick(logits: torch.Tensor, decoding: Decoding, generator: torch.Generator) -> int:
    """The next token id from `logits` [vocabulary].

    One uniform number is drawn a token, whatever the vocabulary or the batch: the same seed gives
    the same text whoever shares the batch.
    """
    if not decoding.sample or decoding.temperature <= 0:
        return int(logits.argmax())
    scaled = logits.float().cpu() / decoding.temperature
    likely, tokens = nucleus(scaled.softmax(0), decoding.top_p)
    reached = likely.cumsum(0)
    drawn = torch.rand((), generator=generator) * reached[-1]
    place = int(torch.searchsorted(reached, drawn, right=True))
    return int(tokens[min(place, len(tokens) - 1)])  # rounding may leave `drawn` at the very end
