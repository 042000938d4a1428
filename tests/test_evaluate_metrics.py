"""BLEU, ROUGE and alpha against sacrebleu, rouge-score and krippendorff; SQuAD's own cases."""

import math

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from ragdemo.evaluation import bleu, rouge
from ragdemo.evaluation.agreement import alpha, interval, nominal
from ragdemo.evaluation.answers import exact_match, f1

# words that meet often, and the signs that tokenisers differ in
WORDS = (
    "the leave days of 28 5.50 1,250 £12 a-b 5-6 it's Grade &amp; ... (two) a.m. _x_ naïve".split()
)
TEXT = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join) | st.text(max_size=40)
WORDY = st.lists(st.sampled_from(WORDS), min_size=1, max_size=14).map(" ".join)
GOLDS = st.lists(TEXT, min_size=1, max_size=3)


@given(TEXT)
def test_bleu_parts_words_as_mteval(text):
    text = text.replace("\r", " ")
    assert bleu.tokens(text) == Tokenizer13a()(text.rstrip()).split()


@settings(deadline=None)
@given(TEXT, GOLDS)
def test_sentence_bleu_is_sacrebleus(answer, golds):
    theirs = BLEU(effective_order=True).sentence_score(answer, golds).score / 100
    assert bleu.sentence_bleu(answer, golds) == pytest.approx(theirs, abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.tuples(WORDY, WORDY, WORDY), min_size=1, max_size=6))
def test_corpus_bleu_is_sacrebleus(rows):
    answers, first, second = (list(column) for column in zip(*rows, strict=True))
    theirs = BLEU().corpus_score(answers, [first, second]).score / 100
    golds = list(zip(first, second, strict=True))
    assert bleu.corpus_bleu(answers, golds) == pytest.approx(theirs, abs=1e-6)


def test_bleu_by_hand():
    said, gold = "the cat is on the mat", "there is a cat on the mat"
    # unigrams 5/6, bigrams 2/5, trigrams 1/4, none of three 4-grams: 1 / (2 x 3); brevity 1 - 7/6
    by_hand = math.exp(1 - 7 / 6) * (5 / 6 * 2 / 5 * 1 / 4 * 1 / 6) ** 0.25
    assert bleu.sentence_bleu(said, [gold]) == pytest.approx(by_hand)
    assert bleu.corpus_bleu([], []) == 0


@settings(deadline=None)
@given(TEXT, GOLDS)
def test_rouge_is_rouge_scores(answer, golds):
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    theirs = [scorer.score(gold, answer) for gold in golds]
    ours = [rouge.rouge_n(answer, golds, n) for n in (1, 2)] + [rouge.rouge_l(answer, golds)]
    for name, value in zip(("rouge1", "rouge2", "rougeL"), ours, strict=True):
        assert value == pytest.approx(max(t[name].fmeasure for t in theirs), abs=1e-9)


def test_rouge_by_hand():
    assert rouge.rouge_n("police killed the gunman", ["police kill the gunman"], 1) == 0.75
    assert rouge.rouge_l("the gunman police killed", ["police killed the gunman"]) == 0.5
    assert rouge.rouge_l("anything", []) == 0


@st.composite
def ratings(draw, values):
    """[raters][units], NaN where a rater left a unit out; at least two values met."""
    raters, units = draw(st.integers(2, 4)), draw(st.integers(2, 6))
    cell = st.sampled_from([*values, math.nan])
    table = draw(st.lists(st.lists(cell, min_size=units, max_size=units),
                          min_size=raters, max_size=raters))  # fmt: skip
    return np.array(table, dtype=float)


@settings(deadline=None)
@given(ratings([1, 2, 3, 4, 5]), st.sampled_from([("nominal", nominal), ("interval", interval)]))
def test_alpha_is_krippendorffs(table, level):
    name, difference = level
    units = [[v for v in column if not math.isnan(v)] for column in table.T]
    met = [v for unit in units if len(unit) > 1 for v in unit]
    ours = alpha(units, difference)
    if len(set(met)) < 2:
        assert math.isnan(ours)
        return
    theirs = krippendorff.alpha(table, level_of_measurement=name)
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_alpha_by_hand():
    assert alpha([["yes", "yes"], ["no", "no"], ["yes", "no"]]) == pytest.approx(4 / 9)
    assert alpha([[1, 1], [2, 2]], interval) == 1
    assert math.isnan(alpha([[1], [2]]))


@pytest.mark.parametrize(
    ("answer", "golds", "em", "score"),
    [
        # the behaviour SQuAD's script documents: case, articles, punctuation, spacing; best gold
        ("The Broncos", ["Denver Broncos", "broncos"], 1, 1.0),
        ("Santa Clara, California.", ["santa clara california"], 1, 1.0),
        ("gold  anniversary", ["golden anniversary", "a gold anniversary!"], 1, 1.0),
        ("in Levi's Stadium", ["Levi's Stadium"], 0, 0.8),
        ("", ["word"], 0, 0.0),
        ("the", ["a"], 1, 1.0),
    ],
)
def test_squad_cases(answer, golds, em, score):
    assert exact_match(answer, golds) == em
    assert f1(answer, golds) == pytest.approx(score)
