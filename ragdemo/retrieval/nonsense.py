"""Where a nonsense question lands: the score that says nothing, for this corpus and retriever."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from ragdemo.corpus import NONSENSE
from ragdemo.retrieval.base import Retriever

_known: WeakKeyDictionary[Retriever, tuple[str, float | None]] = WeakKeyDictionary()


def floor(retriever: Retriever) -> float | None:
    """The mean best score of `corpus.NONSENSE`'s questions; None where there is nothing to find.

    A question that finds nothing counts as the score of a passage not found (0 for word weights)
    and is left out where there is none. Kept until the corpus changes.
    """
    fingerprint = retriever.corpus.fingerprint
    known = _known.get(retriever)
    if known is None or known[0] != fingerprint:
        known = _known[retriever] = (fingerprint, _measured(retriever))
    return known[1]


def _measured(retriever: Retriever) -> float | None:
    if not retriever.corpus.chunks:
        return None
    found = [retriever.search(question, 1) for question in NONSENSE]
    absent = getattr(retriever, "absent", None)
    best = [hits[0].score if hits else absent for hits in found]
    known = [score for score in best if score is not None]
    return float(np.mean(known)) if known else None
