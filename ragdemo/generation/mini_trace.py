"""ragdemo-mini, watched while it writes: the mixture of copying and its own words at each step."""

from __future__ import annotations

import torch

from ragdemo.generation.mini import MiniGenerator
from ragdemo.generation.mini.decode import pieces
from ragdemo.generation.mini.model import NULL, Encoded
from ragdemo.generation.mini.row import Row
from ragdemo.generation.tracing import TokenStep, step_of
from ragdemo.types import Decoding, Prompt


class TraceableMini(MiniGenerator):
    """The bundled generator with `tracing.Traceable`."""

    @torch.inference_mode()
    def trace(self, prompt: Prompt, decoding: Decoding) -> tuple[TokenStep, ...]:
        """See `tracing.Traceable`. An answer of two sentences is written by two drafts side by
        side; their steps come one after the other, as they are read."""
        row = Row(self, prompt, decoding)
        row.read_in()
        encoded = self._encode([row])
        row.null = float(encoded.selection[0, NULL].exp())
        if prompt.used and row.null > self.facts.refuse_above:
            return ()
        row.begin(encoded.selection[0])
        drafts = list(row.drafts)
        places = [0] * len(drafts)
        several = Encoded(**{name: value[places] for name, value in vars(encoded).items()})
        focused = self._model.focused(several, torch.tensor([d.sentence for d in drafts]))
        seen: list[list[TokenStep]] = [[] for _ in drafts]
        weighed: list[torch.Tensor] = []

        def choose(probabilities: torch.Tensor) -> torch.Tensor:
            weighed[:] = list(probabilities.clone())
            both = zip(drafts, probabilities, strict=True)
            return torch.tensor([draft.choose(p) for draft, p in both])

        for piece in pieces(self._model, focused, choose, self._writable([prompt] * len(drafts))):
            for place, draft in enumerate(drafts):
                if draft.end is None:
                    token, source = int(piece.ids[place]), int(piece.source[place])
                    at = row.places[source] if 0 <= source < len(row.places) else None
                    passage = at.passage if at is not None and at.passage >= 0 else None
                    p = weighed[place] / weighed[place].sum()
                    seen[place].append(step_of(p, token, self._vocabulary.__getitem__, passage))
                    row.take(draft, token, source, piece.pointer[place])
            if row.finish:
                break
        return tuple(step for draft, own in zip(drafts, seen, strict=True)
                     if draft in row.drafts for step in own)  # fmt: skip
