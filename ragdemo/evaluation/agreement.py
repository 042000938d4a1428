"""How far several raters agree beyond chance: Krippendorff's alpha.

Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability",
https://repository.upenn.edu/asc_papers/43. 1: all agree; 0: as by chance; below 0: they disagree
more than that. From 0.8 on ratings are usually relied on, from 0.667 for tentative conclusions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence

Difference = Callable[[Hashable, Hashable], float]


def nominal(a: Hashable, b: Hashable) -> float:
    """Labels: the same or not."""
    return float(a != b)


def interval(a: float, b: float) -> float:
    """Steps of a scale: squared, so that 1 against 5 weighs sixteen times 1 against 2."""
    return float(a - b) ** 2


def alpha(units: Sequence[Sequence[Hashable]], difference: Difference = nominal) -> float:
    """`units`: for each thing rated the values it got, in any order and number. NaN where fewer
    than two raters met anywhere, or where all values given are the same one.

        [["yes", "yes"], ["no", "no"], ["yes", "no"]] -> 1 - (2/6) / (18/30) = 0.444
    """
    met = [Counter(values) for values in units if len(values) > 1]
    everything = sum(met, Counter())
    n = everything.total()
    observed = sum(_spread(unit, difference) / (unit.total() - 1) for unit in met)
    expected = _spread(everything, difference) / (n - 1) if n > 1 else 0.0
    return 1 - observed / expected if expected else math.nan


def _spread(counts: Mapping[Hashable, int], difference: Difference) -> float:
    """The differences of all ordered pairs of these values."""
    return sum(
        many * other * difference(a, b) for a, many in counts.items() for b, other in counts.items()
    )
