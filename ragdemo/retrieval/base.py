"""What a retriever offers."""

from __future__ import annotations

from typing import Protocol

from ragdemo.types import Hit


class Retriever(Protocol):
    """Scores of different retrievers are not comparable; ranks are."""

    name: str

    def search(self, question: str, k: int) -> list[Hit]:
        """At most `k` hits, best first; fewer where the corpus holds fewer chunks."""
        ...
