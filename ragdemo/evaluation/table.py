"""What retrievers came to on a set, as a Markdown table with intervals and differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ragdemo.evaluation.bootstrap import interval, paired
from ragdemo.evaluation.sets import EvalSet


@dataclass(frozen=True)
class Measured:
    """What one retriever came to on one set."""

    retriever: str
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # measure -> id -> 0..1
    seconds: float = 0.0  # a question, mean
    problem: str = ""  # why it was not measured


def table(chosen: EvalSet, lines: Sequence[Measured]) -> str:
    """Markdown; differences are to the first line, on the questions both were asked."""
    first = next((line for line in lines if not line.problem), Measured(""))
    heads = [*chosen.measures, f"{chosen.lead} against {first.retriever}", "p", "ms"]
    rows = [f"| retriever | questions | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for line in lines:
        cells = [""] * (len(heads) + 1)
        if line.problem:
            cells[1] = f"not measured: {line.problem}"
        else:
            means = [_mean(line.values.get(name, {})) for name in chosen.measures]
            count = f"{len(line.values[chosen.lead]):,}"
            cells = [
                count,
                *means,
                *_against(line, first, chosen.lead),
                f"{1e3 * line.seconds:.1f}",
            ]
        rows.append(f"| {line.retriever} | {' | '.join(cells)} |")
    return f"**{chosen.title}**\n\n" + "\n".join(rows)


def _mean(values: Mapping[str, float]) -> str:
    if not values:
        return ""
    found = interval(list(values.values()))
    return f"{found.mean:.3f} ({found.low:.3f}-{found.high:.3f})"


def _against(line: Measured, first: Measured, lead: str) -> tuple[str, str]:
    if line is first:
        return "", ""
    own, other = line.values[lead], first.values[lead]
    shared = [key for key in own if key in other]
    found = paired([own[key] for key in shared], [other[key] for key in shared])
    return (
        f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})",
        f"{found.p:.3f}" if found.p >= 0.001 else "<0.001",
    )
