"""Several answers of the bundled model written side by side, a word piece of each at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ragdemo.generation.mini.decode import Piece, pieces
from ragdemo.generation.mini.model import Encoded
from ragdemo.generation.mini.row import Draft, Row

if TYPE_CHECKING:
    from ragdemo.generation.mini.generator import MiniGenerator


class Writing:
    """Rows that are written together: one that quotes passages, with all its drafts, or all that
    answer from the question alone.

    What a row goes on copying is guessed (see `pieces`), and rows written together are held up by
    the one guessed worst: ten alone take a tenth of the passes that ten together do.
    """

    piece: Piece  # the last one of every draft
    weighed: torch.Tensor  # [drafts, V] p of what it was chosen from

    def __init__(
        self, generator: MiniGenerator, rows: Sequence[tuple[int, Row]], encoded: Encoded
    ) -> None:
        """`rows` with their places in `encoded`."""
        self.rows = [row for _, row in rows]  # that are still being written
        drafts = [(place, row, draft) for place, row in rows for draft in row.drafts]
        self.drafts: list[tuple[Row, Draft]] = [(row, draft) for _, row, draft in drafts]
        sentences = torch.tensor([draft.sentence for _, draft in self.drafts])
        chosen = encoded.rows([place for place, _, _ in drafts])
        allowed = generator._writable([row.prompt for row, _ in self.drafts])
        model = generator._model
        self._pieces = pieces(model, model.focused(chosen, sentences), self._choose, allowed)

    def go_on(self, cancelled: Sequence[threading.Event] = ()) -> list[tuple[Row, str | None]]:
        """One word piece more for each draft; the rows that grew, and why each ends, if it does.
        `cancelled` has a place for each row's number."""
        stopped = {row.number for row in self.rows if cancelled and cancelled[row.number].is_set()}
        self.piece = next(self._pieces)
        for place, (row, draft) in enumerate(self.drafts):
            # what a visitor has stopped grows no further
            if draft.end is None and row.number not in stopped:
                token, source = int(self.piece.ids[place]), int(self.piece.source[place])
                row.take(draft, token, source, self.piece.pointer[place])
        grown = [(r, "cancelled" if r.number in stopped else r.finish) for r in self.rows]
        self.rows = [row for row, finish in grown if finish is None]
        return grown

    def _choose(self, probabilities: torch.Tensor) -> torch.Tensor:
        self.weighed = probabilities
        both = zip(self.drafts, probabilities, strict=True)
        return torch.tensor([draft.pick(p) for (_, draft), p in both])
