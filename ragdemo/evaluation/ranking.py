"""A ranking against what was judged relevant: one short pure function a formula.

Values are those of trec_eval and ir-measures, in 0..1; a question with nothing relevant scores 0.
An id that comes twice counts where it stands first, and its repeats take no place: two chunks of
one document are one document. Knows nothing of retrievers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ragdemo.types import Hit

Place = tuple[str, tuple[int, ...]]  # a file's name and its pages: ("leave.pdf", (2, 3))


def recall_at(ranked: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """Share of the relevant ids (grade above 0) that stand among the first `k`."""
    wanted = {name for name, grade in relevant.items() if grade > 0}
    return len(wanted.intersection(_first(ranked, k))) / len(wanted) if wanted else 0.0


def reciprocal_rank(
    ranked: Sequence[str], relevant: Mapping[str, int], k: int | None = None
) -> float:
    """1 / the place of the first relevant id; 0 where none stands among the first `k`.

    Its mean over questions is MRR (Voorhees 1999, TREC-8 question answering track).
    """
    for rank, name in enumerate(_first(ranked, k), start=1):
        if relevant.get(name, 0) > 0:
            return 1 / rank
    return 0.0


def ndcg_at(ranked: Sequence[str], relevant: Mapping[str, int], k: int) -> float:
    """Gain of the first `k` over the best gain possible (Järvelin and Kekäläinen 2002,
    https://doi.org/10.1145/582415.582418), as trec_eval's ndcg_cut: the gain is the grade itself,
    what nobody judged gains 0.

        grades 2, 0, 1 of {2, 1}: (2/log2(2) + 1/log2(4)) / (2/log2(2) + 1/log2(3)) = 0.950
    """
    gained = dcg([relevant.get(name, 0) for name in _first(ranked, k)])
    best = dcg(sorted(relevant.values(), reverse=True)[:k])
    return gained / best if best else 0.0


def dcg(grades: Sequence[int]) -> float:
    """Sum of grade / log2(place + 1); grades below 0 count as 0."""
    return sum(max(g, 0) / math.log2(place + 1) for place, g in enumerate(grades, start=1))


def gold_rank(hits: Sequence[Hit], places: Sequence[Place]) -> int | None:
    """The place, from 1, of the first hit whose chunk touches a gold page of its gold file."""
    ranks = (rank for rank, hit in enumerate(hits, 1) if any(touches(hit, p) for p in places))
    return next(ranks, None)


def gold_page_at(hits: Sequence[Hit], places: Sequence[Place], k: int) -> float:
    """1 where a gold page is among the first `k` hits: any of them, where there are several."""
    return float(gold_rank(hits[:k], places) is not None)


def gold_recall_at(hits: Sequence[Hit], places: Sequence[Place], k: int) -> float:
    """Share of the gold places found in the first `k`: a question may need two passages."""
    found = [any(touches(hit, place) for hit in hits[:k]) for place in places]
    return sum(found) / len(found) if found else 0.0


def touches(hit: Hit, place: Place) -> bool:
    file, pages = place
    return hit.chunk.document_name == file and not set(pages).isdisjoint(hit.chunk.pages)


def places_found(hits: Sequence[Hit], places: Sequence[Place]) -> list[str]:
    """Each hit as the places that it is the first to touch, or as an id that stands for nothing."""
    found: list[str] = []
    for hit in hits:
        new = [
            str(number)
            for number, place in enumerate(places)
            if str(number) not in found and touches(hit, place)
        ]
        found += new or [f"other {len(found)}"]
    return found


def _first(ranked: Sequence[str], k: int | None) -> list[str]:
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return list(dict.fromkeys(ranked))[:k]
