"""Question and passage that belong together: what a retriever is trained and measured on.

    "When must a lost phone be reported?" -> the chunk of mobile-phone-policy.pdf that says it

They come from a question set, from questions that a generator writes for each chunk and that find
their way back to it, or from a visitor who says which passage answers. A document is in one part of
a split only: what a model learnt of a document must not help with the questions held out.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ragdemo.corpus import Corpus
from ragdemo.errors import RagdemoError
from ragdemo.evaluation.answers import contains, f1
from ragdemo.evaluation.questions import Question
from ragdemo.evaluation.ranking import Place, touches
from ragdemo.text import sentences, words
from ragdemo.types import Chunk, Hit

SHARES = (0.6, 0.15, 0.25)  # of the questions trained on, watched while training, and tested with
LOOK = 20  # hits in which negatives are looked for
BACK = 3  # a written question must find its own chunk among so many
BATCH = 8  # chunks that questions are written for at a time


@dataclass(frozen=True, slots=True)
class Pair:
    """A question with a passage that answers it."""

    question: str
    gold: Chunk
    places: tuple[Place, ...] = ()  # where the answer stands; () where only `gold` counts as right
    kind: str = ""  # the question set's, or "written" or "marked"
    hard: Chunk | None = None  # a passage that looks right and is not
    example: Question | None = None  # what it was made from

    def right(self, chunk: Chunk) -> bool:
        """Whether this passage holds the answer too."""
        if self.places:
            return any(touches(Hit(chunk, 0.0, 1, ""), place) for place in self.places)
        same = chunk.document_id == self.gold.document_id
        return same and chunk.start < self.gold.end and self.gold.start < chunk.end


@dataclass(frozen=True, slots=True)
class Split:
    """Pairs in three parts that share no document."""

    train: tuple[Pair, ...]
    watch: tuple[Pair, ...]  # decides when to end and which weights to keep
    test: tuple[Pair, ...]  # says what was gained


def from_questions(questions: Sequence[Question], corpus: Corpus) -> list[Pair]:
    """A pair for each question whose place is known and in the corpus. Of the chunks that touch a
    gold page, the gold one holds a short answer, or shares most words with the answer."""
    pairs = []
    for asked in questions:
        near = [
            chunk
            for chunk in corpus.chunks
            if any(touches(Hit(chunk, 0.0, 1, ""), place) for place in asked.places)
        ]
        if not asked.answerable or not near:
            continue
        gold = max(near, key=lambda chunk, asked=asked: _holds(chunk, asked))
        pairs.append(Pair(asked.question, gold, asked.places, asked.kind, example=asked))
    return pairs


def _holds(chunk: Chunk, asked: Question) -> tuple[float, float]:
    wanted = {*words(asked.answer)} or {*words(asked.question)}
    shared = len(wanted & {*words(chunk.content)}) / max(1, len(wanted))
    return contains(chunk.content, asked.short), shared


def written(
    corpus: Corpus,
    generator,
    *,
    documents: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Pair]:
    """Questions that `generator.ask` writes for each chunk (of these document ids), those kept that
    lead back: a search for the question finds its chunk among the first `BACK` (round-trip
    consistency, Alberti et al. 2019, https://arxiv.org/abs/1906.05416, with retrieval in place of
    their reader).

    What comes back is what the retriever finds already, so these pairs teach it the documents'
    topics and wording rather than what it cannot find. Raises RagdemoError for a generator that
    writes no questions.
    """
    if not hasattr(generator, "ask"):
        raise RagdemoError(
            f"{generator.name} writes no questions. Use the bundled generator, or a question set."
        )
    chunks = [c for c in corpus.chunks if documents is None or c.document_id in documents]
    pairs, seen = [], set()
    for start in range(0, len(chunks), BATCH):
        part = chunks[start : start + BATCH]
        asked = generator.ask(part)
        vectors = corpus.encoder.encode_queries(asked)
        for chunk, question, vector in zip(part, asked, vectors, strict=True):
            found = [c.id for c, _ in corpus.search(vector, BACK)]
            if chunk.id in found and question.casefold() not in seen:
                seen.add(question.casefold())
                pairs.append(Pair(question, chunk, kind="written"))
        if progress:
            progress(min(start + BATCH, len(chunks)), len(chunks))
    return pairs


def with_negatives(pairs: Sequence[Pair], corpus: Corpus) -> tuple[Pair, ...]:
    """Each with its hard negative: the best-ranked passage that does not hold the answer (Xiong et
    al. 2020, https://arxiv.org/abs/2007.00808, mined once), from the pairs' own documents: those
    held out stay unseen. A passage with a short answer in it is passed over: it may be right."""
    mined = []
    own = {pair.gold.document_id for pair in pairs}
    vectors = corpus.encoder.encode_queries([pair.question for pair in pairs])
    for pair, vector in zip(pairs, vectors, strict=True):
        short = pair.example.short if pair.example else ()
        found = (c for c, _ in corpus.search(vector, min(LOOK, len(corpus.chunks)), own))
        hard = next(
            (c for c in found if not pair.right(c) and not (short and contains(c.text, short))),
            None,
        )
        mined.append(replace(pair, hard=hard))
    return tuple(mined)


def split_by_document(
    pairs: Sequence[Pair], seed: int = 0, shares: tuple[float, float, float] = SHARES
) -> Split:
    """Whole documents drawn into the three parts until each has about its share of the pairs.

    A question whose places lie in documents of two parts is left out, and so are written ones that
    would be held out beside asked ones. Raises RagdemoError where there are too few documents.
    """
    by_document: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_document[pair.gold.document_name].append(pair)
    if len(by_document) < 3:
        raise RagdemoError(
            f"There are questions about {len(by_document)} documents; training needs three or "
            "more, so that whole documents can be held out. Add documents or questions."
        )
    names = sorted(by_document)
    random.Random(seed).shuffle(names)
    parts: list[list[str]] = [[], [], []]
    counts = [0, 0, 0]
    for name in names:
        # to the part that is furthest below its share; an empty one first
        lacking = [c / (share * len(pairs)) for c, share in zip(counts, shares, strict=True)]
        at = lacking.index(min(lacking))
        parts[at].append(name)
        counts[at] += len(by_document[name])
    held = [
        tuple(pair for name in part for pair in by_document[name] if _inside(pair, part))
        for part in parts
    ]
    train, *rest = held
    watch, test = (tuple(p for p in part if p.kind != "written") or part for part in rest)
    return Split(train, watch, test)


def _inside(pair: Pair, part: Sequence[str]) -> bool:
    return all(file in part for file, _ in pair.places)


def evidence(example: Question, hits: Sequence[Hit]) -> tuple[int, int, int] | None:
    """(place in `hits`, start, end) of the sentence that says the answer; None where no hit on a
    gold page has one that shares a third of its words with it."""
    said = example.answer or " ".join(example.short[:1])
    best: tuple[float, tuple[int, int, int]] = (1 / 3, (-1, 0, 0))
    for number, hit in enumerate(hits):
        if not any(touches(hit, place) for place in example.places):
            continue
        text = hit.chunk.content
        for span in sentences(text):
            sentence = text[span.start : span.end]
            bonus = 0.5 * bool(example.short and contains(sentence, example.short))
            best = max(best, (f1(sentence, [said]) + bonus, (number, span.start, span.end)))
    return best[1] if best[1][0] >= 0 else None
