"""People as judges: blind pairs of answers, what each rater says of them, and how far raters agree.

Which arm stands left is drawn for each question, and so is the order of the questions; a rater
learns the arms only after the vote. Knows nothing of pages; `rooms` lets several raters meet.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ragdemo.evaluation import agreement
from ragdemo.evaluation.metrics import SCALES
from ragdemo.evaluation.questions import Question
from ragdemo.evaluation.run import Result

LABELS: Mapping[str, str] = {
    "right": "right answer and passage",
    "answer": "wrong answer, right passage",
    "both": "both wrong",
}
CHOICES = ("left", "same", "right")
STEPS = (1, 2, 3, 4, 5)
SHOWN = 3  # passages


@dataclass(frozen=True, slots=True)
class Item:
    """One question as a rater meets it. Passages are shown to both sides alike: they would give
    away which arm read them."""

    id: str  # of the question
    question: str
    expected: str
    answers: tuple[str, str]  # left, right
    arms: tuple[str, str]  # left, right; hidden until the vote
    passages: tuple[tuple[str, str], ...]  # (file, text)


@dataclass(frozen=True, slots=True)
class Side:
    """What a rater says of one answer."""

    label: str  # a key of LABELS
    scales: tuple[int, ...]  # one of STEPS for each of metrics.SCALES

    def __post_init__(self) -> None:
        if self.label not in LABELS:
            raise ValueError(f"unknown label {self.label!r}")
        if len(self.scales) != len(SCALES) or not {*self.scales} <= {*STEPS}:
            raise ValueError(f"every scale needs one of {STEPS}")


@dataclass(frozen=True, slots=True)
class Vote:
    """One rater's word on one item."""

    item: str
    rater: str
    better: str  # one of CHOICES
    sides: tuple[Side, Side]  # left, right

    def __post_init__(self) -> None:
        if self.better not in CHOICES:
            raise ValueError(f"unknown choice {self.better!r}")


def items(
    asked: Sequence[Question],
    results: Iterable[Result],
    arms: tuple[str, str],
    *,
    count: int,
    seed: int,
) -> list[Item]:
    """Pairs of both arms' answers to the same question, drawn; only questions both answered."""
    found = {r.key: r for r in results}
    both = [q for q in asked if all((q.id, arm) in found for arm in arms)]
    draw = random.Random(seed)
    draw.shuffle(both)
    made = []
    for q in both[:count]:
        sides = [found[q.id, arm] for arm in arms]
        hits = next((r.hits for r in sides if r.hits), ())
        draw.shuffle(sides)
        left, right = sides
        made.append(
            Item(
                id=q.id,
                question=q.question,
                expected=_expected(q),
                answers=(left.answer, right.answer),
                arms=(left.arm, right.arm),
                passages=tuple((h.chunk.document_name, h.chunk.text) for h in hits[:SHOWN]),
            )
        )
    return made


def _expected(q: Question) -> str:
    return (q.answer or " / ".join(q.short)) if q.answerable else "The documents don't say."


# -- what the votes come to


@dataclass(frozen=True, slots=True)
class Preference:
    """How often the first arm was preferred, ties left out; `p`: two-sided sign test."""

    arms: tuple[str, str]
    wins: tuple[int, int]
    ties: int
    share: float  # NaN where nobody preferred either
    low: float  # 95% Clopper-Pearson
    high: float
    p: float


def preference(shown: Sequence[Item], votes: Sequence[Vote], arms: tuple[str, str]) -> Preference:
    """Votes of one rater on several items and of several raters on one count alike."""
    from scipy import stats

    many = Counter(_preferred(item, vote) for item, vote in _paired(shown, votes))
    wins = (many[arms[0]], many[arms[1]])
    if not sum(wins):
        return Preference(arms, wins, many[""], math.nan, math.nan, math.nan, math.nan)
    found = stats.binomtest(wins[0], sum(wins))
    ends = found.proportion_ci()
    share = wins[0] / sum(wins)
    return Preference(arms, wins, many[""], share, float(ends.low), float(ends.high), found.pvalue)


def _paired(shown: Sequence[Item], votes: Iterable[Vote]) -> list[tuple[Item, Vote]]:
    known = {item.id: item for item in shown}
    return [(known[vote.item], vote) for vote in votes if vote.item in known]


def _preferred(item: Item, vote: Vote) -> str:
    """The arm, or "" for a tie."""
    return "" if vote.better == "same" else item.arms[vote.better == "right"]


def agreements(shown: Sequence[Item], votes: Sequence[Vote]) -> dict[str, float]:
    """Krippendorff's alpha of the preference, the labels (both nominal) and each scale (interval);
    NaN where it can't be known."""
    both = _paired(shown, votes)
    choices = _units((item.id, _preferred(item, vote)) for item, vote in both)
    sides = [
        ((item.id, arm), side)
        for item, vote in both
        for arm, side in zip(item.arms, vote.sides, strict=True)
    ]
    found = {
        "preference": agreement.alpha(choices),
        "label": agreement.alpha(_units((unit, side.label) for unit, side in sides)),
    }
    for at, name in enumerate(SCALES):
        rated = _units((unit, side.scales[at]) for unit, side in sides)
        found[name] = agreement.alpha(rated, agreement.interval)
    return found


def _units(rated: Iterable[tuple[object, object]]) -> list[list[object]]:
    found: dict[object, list[object]] = {}
    for unit, given in rated:
        found.setdefault(unit, []).append(given)
    return list(found.values())


def labels(shown: Sequence[Item], votes: Sequence[Vote]) -> dict[tuple[str, str], int]:
    """(arm, key of LABELS) -> how often."""
    return dict(
        Counter(
            (arm, side.label)
            for item, vote in _paired(shown, votes)
            for arm, side in zip(item.arms, vote.sides, strict=True)
        )
    )


class Point(NamedTuple):
    """One answer: what raters gave it on average, and what a metric gave it."""

    item: str
    arm: str
    rated: float  # 1..5
    metric: float


def points(
    shown: Sequence[Item],
    votes: Sequence[Vote],
    results: Iterable[Result],
    scale: str,
    metric: str,
) -> list[Point]:
    """Answers that have both."""
    values = {r.key: r.values.get(metric) for r in results}
    at = SCALES.index(scale)
    rated: dict[tuple[str, str], list[int]] = {}
    for item, vote in _paired(shown, votes):
        for arm, side in zip(item.arms, vote.sides, strict=True):
            rated.setdefault((item.id, arm), []).append(side.scales[at])
    return [
        Point(*key, sum(given) / len(given), values[key])
        for key, given in rated.items()
        if values.get(key) is not None
    ]


def correlation(found: Sequence[Point]) -> float:
    """Spearman's rank correlation; NaN with fewer than three answers or where one side is flat."""
    from scipy import stats

    rated, metric = [p.rated for p in found], [p.metric for p in found]
    if len(found) < 3 or len({*rated}) < 2 or len({*metric}) < 2:
        return math.nan
    return float(stats.spearmanr(rated, metric).statistic)


def rows(shown: Sequence[Item], votes: Sequence[Vote]) -> list[list[str]]:
    """A table of all votes, a row for each answer, heads first."""
    heads = ["question", "rater", "arm", "side", "answer", "preferred", "label", *SCALES]
    found = [heads]
    for item, vote in _paired(shown, votes):
        for at, side in enumerate(vote.sides):
            preferred = {"same": "tie"}.get(
                vote.better, "yes" if (vote.better == "right") == bool(at) else "no"
            )
            found.append(
                [item.question, vote.rater, item.arms[at], CHOICES[2 * at], item.answers[at],
                 preferred, LABELS[side.label], *map(str, side.scales)]
            )  # fmt: skip
    return found
