"""One question with four kinds of evidence: where does a wrong answer come from?

    none        the question alone
    retrieved   the passages that retrieval found
    gold        the passage that holds the answer, handed over
    wrong       a near passage that does not hold it, handed over

An ablation by substitution: what retrieval costs is the step from gold to retrieved, what reading
costs is what gold still misses, and an answer that none has already owes retrieval nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ragdemo import fusion
from ragdemo.corpus import Corpus
from ragdemo.errors import RagdemoError
from ragdemo.evaluation.answers import contains
from ragdemo.evaluation.questions import Question
from ragdemo.evaluation.ranking import touches
from ragdemo.evaluation.refusing import refused
from ragdemo.generation.base import Generator
from ragdemo.grounding import CITE_FROM, support
from ragdemo.pipeline import retrieve
from ragdemo.retrieval.base import Retriever
from ragdemo.settings import Ask
from ragdemo.text import content_words
from ragdemo.types import Answer, Chunk, Decoding, Hit

ARMS: Mapping[str, str] = {
    "none": "the question alone",
    "retrieved": "the passages that retrieval found",
    "gold": "the passage that holds the answer, handed over",
    "wrong": "a near passage that does not hold it, handed over",
}
VERDICTS: Mapping[str, str] = {
    "fine": "Retrieval found the passage and the generator answered from it.",
    "retrieval missed it": "Handed the right passage, the generator answers; retrieval did not "
    "find that passage. Mend the search: another retriever, more passages, another chunking.",
    "the generator ignored it": "The right passage was before the generator, and its answer does "
    "not hold what stands there. Another search would not help; another generator or fewer other "
    "passages might.",
    "the model already knew": "The generator answers this without any passage, so the answer shows "
    "nothing about retrieval.",
    "the documents don't say": "No passage holds an answer. The only right answer is to say so.",
}
_NEAR = 50  # passages looked through for a wrong one


@dataclass(frozen=True, slots=True)
class FourArms:
    """What became of one question. Arms without a passage to hand over are left out."""

    question: str
    gold: Chunk | None
    wrong: Chunk | None
    found: tuple[Hit, ...]  # as they stand in the prompt of "retrieved"
    answers: Mapping[str, Answer]  # by arm
    right: Mapping[str, bool]  # by arm
    verdict: str  # a key of VERDICTS

    @property
    def because(self) -> str:
        """The verdict in a sentence or two."""
        return VERDICTS[self.verdict]


def four_arms(
    question: str,
    corpus: Corpus,
    generator: Generator,
    *,
    gold: Chunk | None,
    wrong: Chunk | None = None,
    short: Sequence[str] = (),
    ask: Ask = Ask(),
    decoding: Decoding = Decoding(),
    retriever: Retriever | None = None,
    cancelled: threading.Event | None = None,
) -> FourArms:
    """Answer with each kind of evidence, all in one batch.

    `gold` is None where the documents hold no answer. Without `wrong` the nearest passage of
    another place that holds no accepted answer is taken. `short`: accepted answers; without them,
    right is what the gold passage bears out. Passages are read together, whatever `ask.fusion`
    says. A set `cancelled` ends the answers where they stand. Raises RagdemoError.
    """
    found = retrieve(question, corpus, ask.k, retriever)
    wrong = wrong or nearest_wrong(question, corpus, gold, short)
    hand = {
        "none": [],
        "retrieved": found,
        "gold": _handed(gold),
        "wrong": _handed(wrong),
    }
    hand = {arm: hits for arm, hits in hand.items() if hits or arm == "none"}
    make = partial(generator.prompt, question, decoding=decoding, template=ask.template)
    prompts = [fusion.arranged(make, h, ask.order) if h else make([]) for h in hand.values()]
    event = cancelled or threading.Event()
    rows = len(prompts)
    answers: dict[int, Answer] = {
        step.row: step.answer
        for step in generator.stream(prompts, [decoding] * rows, [event] * rows)
        if step.answer
    }
    if len(answers) < rows:
        raise RagdemoError("The generator ended without an answer. Try again.")
    said = {arm: answers[row] for row, arm in enumerate(hand)}
    right = {arm: is_right(one, question, gold, short) for arm, one in said.items()}
    used = said["retrieved"].prompt.used if "retrieved" in said else ()
    return FourArms(
        question, gold, wrong, tuple(used), said, right, judged(gold, used, right, short)
    )


def is_right(answer: Answer, question: str, gold: Chunk | None, short: Sequence[str]) -> bool:
    """Holds an accepted answer; where none is known, the gold passage bears out every sentence
    with all its numbers and names. Where the documents don't say, it says so."""
    if gold is None:
        return refused(answer)
    if refused(answer):
        return False
    if short:
        return bool(contains(answer.text, short))
    held = support(answer.text, _handed(gold), question)
    return bool(held) and all(s.score >= CITE_FROM and not s.unsupported for s in held)


def nearest_wrong(
    question: str, corpus: Corpus, gold: Chunk | None, short: Sequence[str] = ()
) -> Chunk | None:
    """The passage nearest in meaning that neither touches the gold one nor holds an accepted
    answer; one of another document before one of the same. None where there is no such passage."""
    near = [hit.chunk for hit in retrieve(question, corpus, _NEAR)]
    fit = [c for c in near if not (gold and _touch(c, gold)) and not contains(c.content, short)]
    elsewhere = (c for c in fit if gold is None or c.document_id != gold.document_id)
    return next(elsewhere, fit[0] if fit else None)


def gold_passage(asked: Question, corpus: Corpus) -> Chunk | None:
    """The passage that holds the answer: on a gold page, with an accepted short answer in it where
    there is one, and of several the one that shares most words with the expected answer. None where
    no passage is so."""
    on = [c for c in corpus.chunks if any(touches(_handed(c)[0], p) for p in asked.places)]
    fit = [c for c in on if not asked.short or contains(c.content, asked.short)]
    wanted = set(content_words(asked.answer))
    return max(fit, key=lambda c: len(wanted & {*content_words(c.content)}), default=None)


def _handed(chunk: Chunk | None) -> list[Hit]:
    return [Hit(chunk, 1.0, 1, "handed over")] if chunk else []


def _touch(a: Chunk, b: Chunk) -> bool:
    return a.document_id == b.document_id and a.start < b.end and b.start < a.end


def judged(
    gold: Chunk | None, used: Sequence[Hit], right: Mapping[str, bool], short: Sequence[str]
) -> str:
    """The verdict's key, from which arms are right and what the retrieved one read."""
    if gold is None or (short and not right["gold"] and not contains(gold.content, short)):
        return "the documents don't say"
    if right["none"]:
        return "the model already knew"
    if right.get("retrieved"):
        return "fine"
    if right["gold"] and not any(_touch(hit.chunk, gold) for hit in used):
        return "retrieval missed it"
    return "the generator ignored it"
