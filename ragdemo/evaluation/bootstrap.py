"""How sure a mean is: bootstrap intervals, and paired differences with their p-value.

Intervals are Efron's BCa bootstrap (1987, https://doi.org/10.1080/01621459.1987.10478410); p is
Fisher's randomisation test, which holds its level on rankings where the t-test's assumptions fail
(Smucker, Allan and Carterette 2007, https://doi.org/10.1145/1321440.1321528). Both by scipy and
seeded, so that the same values always give the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
RESAMPLES = 9_999  # one less than a round number: the observed value is counted among them
ROUNDING = 1e-12  # values nearer than this are the same: they differ only in how they were summed
BATCH = 4_000_000  # numbers drawn at a time: 32 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where the mean of all such questions lies, at the level asked for."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Paired:
    """Mean of `a - b` over the same questions; `p` is two-sided: a difference as large in either
    direction, were it chance which of the two values belongs to which arm."""

    difference: float
    low: float
    high: float
    p: float
    n: int


def interval(
    values: Sequence[float], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean of `values` [n] with its interval; NaN throughout where there are none.

    The bootstrap knows only values it has seen: where all are equal, or there is one, the interval
    is that point, however few they are.
    """
    from scipy import stats

    row = _finite(values)
    n = len(row)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(row.mean())
    if np.ptp(row) < ROUNDING:
        return Interval(mean, mean, mean, n)
    found = stats.bootstrap(
        (row,), np.mean, axis=-1, vectorized=True, method="BCa", confidence_level=level,
        n_resamples=resamples, batch=max(1, BATCH // n), rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Interval(mean, float(found.low), float(found.high), n)


def paired(
    a: Sequence[float],
    b: Sequence[float],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """`a` against `b` [n], value by value of the same questions. p is exact where all changes of
    sign, 2^(values that differ), are at most `resamples`, else drawn; NaN where there is nothing
    to compare."""
    from scipy import stats

    if len(a) != len(b):
        raise ValueError(f"paired values must be as many: got {len(a)} and {len(b)}")
    row = _finite(a) - _finite(b)
    row[np.abs(row) < ROUNDING] = 0.0
    mean = interval(row, level=level, resamples=resamples, seed=seed)
    if mean.n == 0:
        return Paired(math.nan, math.nan, math.nan, math.nan, 0)
    # a difference of 0 is 0 under either sign; what is left is often few enough to count them all
    moved = row[row != 0]
    p = 1.0  # no value differs, or one alone, which proves nothing
    if len(moved) > 1:
        p = stats.permutation_test(
            (moved,), np.mean, permutation_type="samples", vectorized=True, n_resamples=resamples,
            batch=max(1, BATCH // mean.n), rng=np.random.default_rng(seed),
        ).pvalue  # fmt: skip
    return Paired(mean.mean, mean.low, mean.high, float(p), mean.n)


def _finite(values: Sequence[float]) -> np.ndarray:
    row = np.asarray(values, dtype=np.float64)
    if row.ndim != 1 or not np.isfinite(row).all():
        raise ValueError("values must be a row of finite numbers")
    return row
