"""ragdemo-mini watched while it writes: the mixture of copying and its own words at each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ragdemo.generation.mini.again import not_here
from ragdemo.generation.mini.decode import pieces
from ragdemo.generation.mini.model import SEP
from ragdemo.generation.mini.row import Draft, Row
from ragdemo.generation.tracing import TokenStep, step_of
from ragdemo.types import Decoding, Prompt

if TYPE_CHECKING:
    from ragdemo.generation.mini.generator import MiniGenerator


def watched(generator: MiniGenerator, prompt: Prompt, decoding: Decoding) -> tuple[TokenStep, ...]:
    """See `tracing.Traceable`. An answer of two sentences is written by two drafts side by side;
    their steps come one after the other, as they are read.

    A piece inside a copied word is not chosen (`choosing.WholeWords`); its step shows what the
    mixture gave it all the same.
    """
    row = Row(generator, prompt, decoding)
    row.read_in()
    encoded = generator._encode([row])
    row.null = float(not_here(generator, [row], encoded))
    if row.refusing:
        return ()
    row.begin(encoded.selection[0], encoded.tokens[0].tolist())
    drafts = list(row.drafts)
    sentences = torch.tensor([draft.sentence for draft in drafts])
    encoded = generator._model.focused(encoded.rows([0] * len(drafts)), sentences)
    allowed = generator._writable([prompt] * len(drafts))
    steps: dict[Draft, list[TokenStep]] = {draft: [] for draft in drafts}
    weighed: list[torch.Tensor] = []

    def choose(probabilities: torch.Tensor) -> torch.Tensor:
        weighed[:] = list(probabilities.clone())
        return torch.tensor([d.pick(p) for d, p in zip(drafts, probabilities, strict=True)])

    for piece in pieces(generator._model, encoded, choose, allowed):
        for place, draft in enumerate(drafts):
            if draft.end is None:
                token = int(piece.ids[place])
                row.take(draft, token, int(piece.source[place]), piece.pointer[place])
                p = weighed[place] / weighed[place].sum()
                at = row.places[draft.source] if token != SEP and draft.source >= 0 else None
                passage = at.passage if at is not None and at.passage >= 0 else None
                steps[draft].append(step_of(p, token, generator._vocabulary.__getitem__, passage))
        if row.finish:
            break
    return tuple(step for draft in drafts if draft in row.drafts for step in steps[draft])
