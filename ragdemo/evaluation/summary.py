"""What a run came to: a mean with its interval for each arm and metric, and arms against the first.

Means are over the questions a metric applies to. Differences are taken question by question, over
those that both arms answered; p is not corrected for the number of metrics looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragdemo.evaluation.bleu import corpus_bleu
from ragdemo.evaluation.bootstrap import RESAMPLES, Interval, Paired, interval, paired
from ragdemo.evaluation.metrics import COMPUTED
from ragdemo.evaluation.questions import Question
from ragdemo.evaluation.run import Result


@dataclass(frozen=True, slots=True)
class Line:
    """One arm."""

    arm: str
    questions: int
    means: Mapping[str, Interval]  # key of METRICS -> mean; only those that apply
    against: Mapping[str, Paired]  # this arm less the first, where both have the metric
    corpus_bleu: float | None  # all answers as one text; None where no sentence was expected


def summarise(
    asked: Sequence[Question],
    results: Sequence[Result],
    arms: Sequence[str],
    *,
    resamples: int = RESAMPLES,
) -> list[Line]:
    """A line for each arm that has results, in this order; the first is what others are compared
    with."""
    known = {q.id: q for q in asked}
    rows = {name: [r for r in results if r.arm == name and r.id in known] for name in arms}
    present = [name for name in arms if rows[name]]
    first = _by_metric(rows[present[0]]) if present else {}
    lines = []
    for name in present:
        own = _by_metric(rows[name])
        means = {key: interval([*own[key].values()], resamples=resamples) for key in own}
        shared = [key for key in own if key in first] if name != present[0] else []
        pairs = {key: _against(own[key], first[key], resamples) for key in shared}
        against = {key: pair for key, pair in pairs.items() if pair}
        lines.append(Line(name, len(rows[name]), means, against, _whole(rows[name], known)))
    return lines


def _by_metric(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Metric -> question -> value, in the order of the table."""
    table = {key: {r.id: r.values[key] for r in results if key in r.values} for key in COMPUTED}
    return {key: values for key, values in table.items() if values}


def _against(own: Mapping[str, float], other: Mapping[str, float], resamples: int) -> Paired | None:
    shared = [key for key in own if key in other]
    if not shared:
        return None
    return paired([own[k] for k in shared], [other[k] for k in shared], resamples=resamples)


def _whole(results: Sequence[Result], known: Mapping[str, Question]) -> float | None:
    rows = [r for r in results if known[r.id].answerable and known[r.id].answer]
    if not rows:
        return None
    said = ["" if r.refused else r.answer for r in rows]
    return corpus_bleu(said, [[known[r.id].answer] for r in rows])
