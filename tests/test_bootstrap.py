"""Intervals against closed forms, coverage on made-up data, p by counting every change of sign."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragdemo.evaluation.bootstrap import interval, paired

VALUES = st.lists(st.one_of(st.floats(-1, 1), st.sampled_from([0.0, 1.0])), min_size=2, max_size=60)


def test_near_the_normal_interval_for_many_values():
    values = np.random.default_rng(1).normal(0.4, 0.2, 2_000)
    found = interval(values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05 * half)


@pytest.mark.parametrize("draw", ["share", "skewed"])
def test_covers_the_truth_about_as_often_as_it_says(draw):
    rng = np.random.default_rng(7)
    truth, covered, rounds = {"share": 0.3, "skewed": 1.0}[draw], 0, 400
    for _ in range(rounds):
        values = rng.random(60) < 0.3 if draw == "share" else rng.exponential(1.0, 60)
        found = interval(values, resamples=499)
        covered += found.low <= truth <= found.high
    assert 0.90 <= covered / rounds <= 0.98


def test_level_and_seed():
    values = np.random.default_rng(2).random(50)
    wide, narrow = interval(values, level=0.99), interval(values, level=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert interval(values) == interval(values, seed=0)
    assert interval(values) != interval(values, seed=1)


@given(st.floats(-1e6, 1e6), st.integers(1, 20))
def test_equal_values_are_a_point(value, n):
    found = interval([value] * n)
    assert found.low == found.mean == found.high == pytest.approx(value)
    assert found.n == n


@settings(deadline=None)
@given(VALUES)
def test_the_interval_lies_within_the_values(values):
    found = interval(values, resamples=199)
    slack = 1e-9
    assert min(values) - slack <= found.low <= found.high + slack <= max(values) + 2 * slack


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_p_counts_every_change_of_sign(differences):
    """scipy's two-sided p is twice the smaller tail; for sign changes both tails are equal."""
    zero = [0.0] * len(differences)
    total = sum(differences)
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in product((-1, 1), repeat=len(differences))
    ]
    exact = np.mean([abs(s) >= abs(total) for s in sums])
    assert paired(differences, zero).p == pytest.approx(exact)


def test_five_wins_of_five():
    found = paired([1, 1, 1, 1, 1], [0, 0, 0, 0, 0])
    assert (found.difference, found.n) == (1, 5)
    assert found.p == pytest.approx(2 / 2**5)


def test_equal_pairs_leave_p_exact():
    """Three questions of 500 differ, all in one direction: 2 of 2^3 changes of sign are as far."""
    a = [1.0] * 3 + [0.5] * 497
    assert paired(a, [0.0] * 3 + [0.5] * 497).p == pytest.approx(2 / 2**3)


def test_swapping_the_arms_turns_the_sign():
    rng = np.random.default_rng(3)
    a, b = rng.random(40), rng.random(40)
    one, other = paired(a, b), paired(b, a)
    assert one.difference == pytest.approx(-other.difference)
    assert one.low == pytest.approx(-other.high, abs=0.01)
    assert one.p == pytest.approx(other.p, abs=0.03)
    assert paired(a, a).p == paired(a, a + 1e-15).p == 1  # rounding is no difference


def test_p_is_rarely_small_by_chance_and_small_for_a_real_difference():
    rng = np.random.default_rng(4)
    chance = [paired(rng.random(30), rng.random(30), resamples=199).p for _ in range(200)]
    assert 0.01 <= np.mean(np.array(chance) <= 0.05) <= 0.10
    base = rng.random(200)
    better = paired(base + 0.1 + rng.normal(0, 0.1, 200), base)
    assert better.p <= 0.001
    assert 0 < better.low < better.difference < better.high


def test_nothing_to_measure_and_what_is_refused():
    assert interval([]).n == paired([], []).n == 0
    assert math.isnan(interval([]).mean)
    assert math.isnan(paired([], []).p)
    with pytest.raises(ValueError, match="as many"):
        paired([1], [])
    with pytest.raises(ValueError, match="finite"):
        interval([math.nan])
    with pytest.raises(ValueError, match="finite"):
        interval([[1.0]])
