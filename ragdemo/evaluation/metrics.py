"""Every metric of an answer in one table: what it says, what it cannot see, and its formula.

A formula gives None where it does not apply: no accepted answer is known, no passage was looked up,
the documents don't say. Scales that people rate stand in the same table, without a formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ragdemo.evaluation import bleu, ranking, rouge
from ragdemo.evaluation.answers import contains, exact_match, f1
from ragdemo.evaluation.questions import Question
from ragdemo.evaluation.ranking import Place
from ragdemo.grounding import CITE_FROM, support
from ragdemo.types import Hit, Support


@dataclass(frozen=True, slots=True)
class Case:
    """What one arm made of one question, as metrics look at it."""

    asked: Question
    answer: str  # "" where it was refused
    refused: bool
    hits: Sequence[Hit]  # by rank; () where the arm looks nothing up
    places: Sequence[Place]  # the gold ones; () where they are not known or their file is missing
    k: int  # how many passages were asked for
    held: Sequence[Support]  # each sentence of the answer against the passages
    seconds: float

    @property
    def golds(self) -> tuple[str, ...]:
        """Accepted answers, short and long; () where there are none or the documents don't say."""
        asked = self.asked
        if not asked.answerable:
            return ()
        return (*asked.short, *([asked.answer] if asked.answer else []))

    @property
    def long(self) -> tuple[str, ...]:
        """What overlap is measured against: the sentence, or where there is none the short ones."""
        answer = self.asked.answer
        return ((answer,) if answer else self.asked.short) if self.asked.answerable else ()


def case(
    asked: Question,
    answer: str,
    refused: bool,
    hits: Sequence[Hit],
    evidence: Sequence[Hit],
    *,
    files: Mapping[str, str],
    k: int,
    seconds: float,
) -> Case:
    """`evidence`: the passages the answer is held against, its own or those another arm found."""
    known = bool(asked.places) and all(file in files for file, _ in asked.places)
    said = "" if refused else answer
    held = support(said, evidence, asked.question) if evidence else ()
    return Case(asked, said, refused, hits, asked.places if known else (), k, held, seconds)


Formula = Callable[[Case], float | None]


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table. `low` and `high` are the ends of its scale."""

    title: str
    group: str  # "answer", "retrieval", "grounding", "refusing", "time" or "people"
    says: str
    blind: str  # what it cannot see
    source: str  # address of the paper or definition; "" for a plain count
    formula: Formula | None  # None: people rate it
    higher: bool = True  # is better
    low: float = 0.0
    high: float | None = 1.0  # None: no fixed end

    @property
    def scale(self) -> str:
        """ "0 to 1, higher is better"."""
        end = "up" if self.high is None else f"to {self.high:g}"
        return f"{self.low:g} {end}, {'higher' if self.higher else 'lower'} is better"


def _gold(formula: Callable[[str, Sequence[str]], float]) -> Formula:
    return lambda c: formula(c.answer, c.golds) if c.golds else None


def _long(formula: Callable[[str, Sequence[str]], float]) -> Formula:
    return lambda c: formula(c.answer, c.long) if c.long else None


def _places(formula: Callable[[Case, list[str], dict[str, int]], float]) -> Formula:
    def value(c: Case) -> float | None:
        if not (c.places and c.k and c.asked.answerable):
            return None
        relevant = {str(number): 1 for number in range(len(c.places))}
        return formula(c, ranking.places_found(c.hits, c.places), relevant)

    return value


def _contains(c: Case) -> float | None:
    return contains(c.answer, c.asked.short) if c.golds and c.asked.short else None


def _borne_out(c: Case) -> float | None:
    return sum(s.score >= CITE_FROM for s in c.held) / len(c.held) if c.held else None


def _nothing_loose(c: Case) -> float | None:
    return float(not any(s.unsupported for s in c.held)) if c.held else None


SQUAD = "https://arxiv.org/abs/1606.05250"
ROUGE = "https://aclanthology.org/W04-1013"
UNANSWERABLE = "https://arxiv.org/abs/1806.03822"
SUMMEVAL = "https://aclanthology.org/2021.tacl-1.24"

METRICS: Mapping[str, Metric] = {
    "contains": Metric(
        "Answer contains", "answer",
        "An accepted short answer stands in the answer, word for word.",
        "“Not 28 days” contains “28 days”; a right answer in other words counts as wrong.",
        "", _contains,
    ),
    "exact": Metric(
        "Exact match", "answer",
        "The answer is an accepted one, but for case, articles and punctuation.",
        "A right whole sentence scores 0 where a short answer was expected.",
        SQUAD, _gold(exact_match),
    ),
    "f1": Metric(
        "F1", "answer",
        "Words shared with the nearest accepted answer, as precision and recall in one.",
        "Knows no order and no meaning: “not” is a word like any other.",
        SQUAD, _gold(f1),
    ),
    "bleu": Metric(
        "BLEU", "answer",
        "Runs of one to four words shared with the expected sentence; short answers lose.",
        "Made for whole texts: on single sentences it is harsh, and other right words score 0.",
        "https://aclanthology.org/P02-1040", _long(bleu.sentence_bleu),
    ),
    "rouge1": Metric(
        "ROUGE-1", "answer", "Single words shared with the expected sentence, as F1.",
        "Common words count like telling ones.", ROUGE,
        _long(lambda answer, golds: rouge.rouge_n(answer, golds, 1)),
    ),
    "rouge2": Metric(
        "ROUGE-2", "answer", "Pairs of words in a row shared with the expected sentence, as F1.",
        "A right answer in another word order scores low.", ROUGE,
        _long(lambda answer, golds: rouge.rouge_n(answer, golds, 2)),
    ),
    "rougeL": Metric(
        "ROUGE-L", "answer", "The longest run of words in the same order, gaps allowed, as F1.",
        "One wrong number in a right sentence costs next to nothing.", ROUGE,
        _long(rouge.rouge_l),
    ),
    "recall": Metric(
        "Recall@k", "retrieval", "Share of the places with the answer among the k passages.",
        "Counts pages, not sentences: another passage of the page counts as found.",
        "", _places(lambda c, found, r: ranking.recall_at(found, r, c.k)),
    ),
    "mrr": Metric(
        "MRR", "retrieval", "1 divided by the place of the first right passage.",
        "What comes after the first right one does not matter.",
        "https://trec.nist.gov/pubs/trec8/papers/qa_report.pdf",
        _places(lambda c, found, r: ranking.reciprocal_rank(found, r, c.k)),
    ),
    "ndcg": Metric(
        "nDCG@k", "retrieval", "Every right place counts, the higher up the more.",
        "The generator may read all k alike, whatever their order.",
        "https://doi.org/10.1145/582415.582418",
        _places(lambda c, found, r: ranking.ndcg_at(found, r, c.k)),
    ),
    "page": Metric(
        "Gold page found", "retrieval", "A passage of a page with the answer is among the k.",
        "Two needed passages and only one found is a full hit.",
        "", _places(lambda c, found, r: ranking.gold_page_at(c.hits, c.places, c.k)),
    ),
    "support": Metric(
        "Sentences borne out", "grounding",
        "Share of the answer's sentences at least half of whose own words stand in a passage.",
        "Compares words: a copied negation, or a passage that is itself wrong, passes.",
        "", _borne_out,
    ),
    "loose": Metric(
        "No loose number or name", "grounding",
        "Every number, date and name of the answer stands in a passage.",
        "The right number of the wrong thing passes.",
        "", _nothing_loose,
    ),
    "refuses": Metric(
        "Refuses when it should", "refusing",
        "Says that the documents don't say, asked what they don't.",
        "A model that always refuses is perfect here.",
        UNANSWERABLE, lambda c: None if c.asked.answerable else float(c.refused),
    ),
    "overrefuses": Metric(
        "Refuses when it should not", "refusing",
        "Says that the documents don't say, asked what they do.",
        "A refusal is right all the same where retrieval found nothing.",
        UNANSWERABLE, lambda c: float(c.refused) if c.asked.answerable else None, higher=False,
    ),
    "seconds": Metric(
        "Seconds a question", "time",
        "The search and this question's share of writing its batch.",
        "In batches a question takes less than alone, and other visitors slow it.",
        "", lambda c: c.seconds, higher=False, high=None,
    ),
    "relevance": Metric(
        "Relevance", "people", "Does it answer what was asked? 1 to 5.",
        "A wrong answer can be to the point.",
        SUMMEVAL, None, low=1.0, high=5.0,
    ),
    "coherence": Metric(
        "Coherence", "people", "Does it read as one clear text? 1 to 5.",
        "Fluent nonsense rates high.",
        SUMMEVAL, None, low=1.0, high=5.0,
    ),
    "accuracy": Metric(
        "Factual accuracy", "people", "Is everything it says so in the documents? 1 to 5.",
        "Raters who don't look it up rate how sure it sounds.",
        SUMMEVAL, None, low=1.0, high=5.0,
    ),
}  # fmt: skip
COMPUTED = tuple(key for key, metric in METRICS.items() if metric.formula)
SCALES = tuple(key for key, metric in METRICS.items() if not metric.formula)


def measured(c: Case) -> dict[str, float]:
    """Every metric that applies."""
    values = {key: METRICS[key].formula(c) for key in COMPUTED}
    return {key: float(value) for key, value in values.items() if value is not None}


ENOUGH = 0.5  # F1 from which an answer counts as right where no short answer is known


def is_right(c: Case) -> bool | None:
    """Holds an accepted short answer, or where none is known shares words enough with the expected
    one; where the documents don't say, says so. None where nothing is known to judge by."""
    if not c.asked.answerable:
        return c.refused
    if not c.golds:
        return None
    if c.asked.short:
        return bool(contains(c.answer, c.asked.short))
    return f1(c.answer, c.golds) >= ENOUGH
