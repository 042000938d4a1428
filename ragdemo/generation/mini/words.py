"""The vocabulary's logits with the word embeddings as they are stored: int8 with one scale a row.

For every word piece written, all 30,522 embeddings are read once: 47 MB in float32, a quarter of it
so. Weights of the bundled model lose nothing, they are int8 on disk. Hidden states are taken in two
parts of seven bits each, a rounded one and 126 times the rest, which together miss them by less
than a ten-thousandth of the row's largest value. One row for itself takes two cores 0.9 ms instead
of 8, four 2 instead of 16.
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from ragdemo.generation.mini.weights import quantise

LEVELS = 63  # on either side of 0; seven bits, so that the sums of pairs fit 16 bits
REST = 2 * LEVELS  # what is left after rounding lies within half a level
ROWS = 32  # at once: their logits are 8 MB
CLOSE = 1e-3  # of the largest logit; what the two parts may differ from float32


class Words:
    """A stand-in for `F.linear(hidden, weight)` that is made once for weights that stay."""

    def __init__(self, weight: Tensor) -> None:
        """`weight` [V, D]. Raises RuntimeError where there is no such kernel."""
        values, scale = quantise(weight)
        before = torch.backends.quantized.engine
        with warnings.catch_warnings():  # torch means to drop it: `words` then gives None
            warnings.simplefilter("ignore")
            torch.backends.quantized.engine = "fbgemm"
            try:
                zeros = torch.zeros(len(scale), dtype=torch.long)
                stored = torch._make_per_channel_quantized_tensor(values, scale.double(), zeros, 0)
                self._packed = torch.ops.quantized.linear_prepack(stored, None)
            finally:
                torch.backends.quantized.engine = before
        # the kernel stretches its 128 levels over the least and greatest number it is given: with
        # these two among them a level is 1, whatever the rows hold and whoever they belong to
        self._ends = torch.zeros(1, weight.shape[1])
        self._ends[0, :2] = torch.tensor([-LEVELS, LEVELS + 1])

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D], float32."""
        parts = [self._few(rows) for rows in hidden.flatten(0, -2).split(ROWS)]
        return torch.cat(parts).unflatten(0, hidden.shape[:-1])

    def _few(self, rows: Tensor) -> Tensor:
        level = rows.abs().amax(1, keepdim=True).clamp(min=1e-30) / LEVELS
        rows = rows / level
        rounded = rows.round()
        both = torch.cat([rounded, (rows - rounded) * REST, self._ends])
        sums = torch.ops.quantized.linear_dynamic(both, self._packed, reduce_range=True)
        n = len(rows)
        return (sums[:n] + sums[n : 2 * n] / REST) * level


def words(weight: Tensor) -> Words | None:
    """For these weights, or None where this machine's kernel is missing or does not agree with
    float32."""
    try:
        found = Words(weight)
    except (RuntimeError, AttributeError):
        return None
    probe = torch.randn(3, weight.shape[1], generator=torch.Generator().manual_seed(0))
    exact = F.linear(probe, weight)
    off = (found(probe) - exact).abs().amax()
    return found if off <= CLOSE * exact.abs().amax() else None
