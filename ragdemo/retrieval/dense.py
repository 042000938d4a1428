"""Nearest chunks by the cosine of sentence embeddings (Karpukhin et al. 2020, arXiv:2004.04906)."""

from __future__ import annotations

from ragdemo.corpus import Corpus
from ragdemo.types import Hit


class Dense:
    """Score: cosine between question and passage, -1..1; near the corpus's floor it is noise."""

    name = "dense"

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def search(self, question: str, k: int) -> list[Hit]:
        if not self.corpus.chunks:
            return []
        query = self.corpus.encoder.encode_queries([question])[0]
        return [
            Hit(chunk, score, rank, self.name, {"cosine": score})
            for rank, (chunk, score) in enumerate(self.corpus.search(query, k), start=1)
        ]
