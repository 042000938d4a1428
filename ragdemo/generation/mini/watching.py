"""ragdemo-mini watched while it writes: the mixture of copying and its own words at each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragdemo.generation.mini.again import not_here
from ragdemo.generation.mini.model import SEP
from ragdemo.generation.mini.row import Draft, Row
from ragdemo.generation.mini.writing import Writing
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
    writing = Writing(generator, [(0, row)], encoded)
    steps: dict[Draft, list[TokenStep]] = {draft: [] for draft in row.drafts}
    while writing.rows:
        growing = {draft for draft in steps if draft.end is None}
        writing.go_on()
        for place, draft in enumerate(steps):
            if draft in growing:
                token, p = int(writing.piece.ids[place]), writing.weighed[place]
                at = row.places[draft.source] if token != SEP and draft.source >= 0 else None
                passage = at.passage if at is not None and at.passage >= 0 else None
                word = generator._vocabulary.__getitem__
                steps[draft].append(step_of(p / p.sum(), token, word, passage))
    return tuple(step for draft in steps if draft in row.drafts for step in steps[draft])
