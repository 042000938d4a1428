"""Exact match and F1 against values worked out by hand and against properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragdemo.evaluation.answers import contains, exact_match, f1, normalise


def test_normalise():
    assert normalise("The 20 days, a  Year!") == "20 days year"


@pytest.mark.parametrize(
    ("answer", "gold", "em", "score"),
    [
        ("Denver Broncos", "the Denver Broncos!", 1, 1.0),
        ("Broncos", "Denver Broncos", 0, 2 * 1 * 0.5 / 1.5),
        ("a cat sat", "dog ran", 0, 0.0),
        ("28 days of leave", "28 days", 0, 2 * (2 / 4) * 1 / (2 / 4 + 1)),
        ("", "", 1, 1.0),
    ],
)
def test_by_hand(answer, gold, em, score):
    assert exact_match(answer, [gold]) == em
    assert f1(answer, [gold]) == pytest.approx(score)


def test_best_of_several_golds():
    assert exact_match("two", ["one", "two"]) == 1
    assert f1("two", ["one", "two three"]) == pytest.approx(2 / 3)
    assert f1("two", []) == 0


def test_contains_whole_words_only():
    assert contains("You get 28 days.", ["28 days"])
    assert not contains("You get 128 days.", ["28 days"])
    assert not contains("Anything", ["", "the"])


@given(st.text(max_size=60), st.text(max_size=60))
def test_bounds_and_symmetry(a, b):
    assert 0 <= f1(a, [b]) <= 1
    assert f1(a, [b]) == pytest.approx(f1(b, [a]))
    assert exact_match(a, [b]) <= f1(a, [b]) + 1e-9


@given(st.text(max_size=60))
def test_a_text_matches_itself(text):
    assert exact_match(text, [text]) == f1(text, [text]) == 1
