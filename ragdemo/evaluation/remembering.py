"""An encoder for a run that asks the same questions of many retrievers. Knows nothing of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ragdemo.embedding import Encoder, Progress


class Remembering:
    """Embeds each question once, however many retrievers ask for it; else as `inner`.

    Rows are kept in memory and, where a folder is given, in it as plain arrays, under a name made
    from the encoder and the texts.
    """

    def __init__(self, inner: Encoder, folder: Path | None = None) -> None:
        self.inner = inner
        self.name, self.dimension, self.limit = inner.name, inner.dimension, inner.limit
        self.similarity = getattr(inner, "similarity", "cosine")
        self._folder = folder
        self._rows: dict[str, np.ndarray] = {}

    def learn(self, queries: Sequence[str]) -> None:
        """Embed these queries in one go."""
        rows = self._kept("queries", queries, self.inner.encode_queries)
        self._rows.update(zip(queries, rows, strict=True))

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        self.learn([t for t in dict.fromkeys(texts) if t not in self._rows])
        rows = [self._rows[t] for t in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dimension), np.float32)

    def encode_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        return self._kept("passages", texts, partial(self.inner.encode_passages, progress=progress))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self.inner.count_tokens(texts)

    def _kept(self, kind: str, texts: Sequence[str], encode: Callable) -> np.ndarray:
        if self._folder is None or len(texts) < 2:
            return encode(texts)
        facts = [self.name, self.dimension, getattr(self.inner, "precision", ""), kind, *texts]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
        path = self._folder / f"{kind}-{key}.npy"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            begun = path.with_suffix(".part.npy")  # a run that is stopped leaves no half a file
            np.save(begun, encode(texts), allow_pickle=False)
            begun.replace(path)
        return np.load(path, allow_pickle=False)
