"""Put a question set to arms: in batches, telling of progress, keeping what is done.

    for standing in run(questions, arms, bench):
        print(standing.done, standing.of, standing.left)

Rows of one arm share a batch: rows without passages are short, and would be padded to the others.
Setting `cancelled` ends the run within a batch; rows that were complete are kept. Knows nothing of
pages or files (`journal` keeps results on disk).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from ragdemo import fusion
from ragdemo.corpus import Corpus
from ragdemo.errors import Cancelled, RagdemoError
from ragdemo.evaluation.arms import Arm, Bench
from ragdemo.evaluation.metrics import case, is_right, measured
from ragdemo.evaluation.questions import Question
from ragdemo.evaluation.refusing import refused
from ragdemo.generation.base import Generator
from ragdemo.retrieval.base import Retriever
from ragdemo.types import Answer, Decoding, Hit, Marginal, Prompt

# Rows written together, as in serving. Measured on two cores: 16 or 32 rows of five passages take
# twice as long a row.
BATCH = 8


@dataclass(frozen=True, slots=True)
class Result:
    """What one arm made of one question."""

    id: str  # of the question
    arm: str
    answer: str
    finish: str  # as Answer.finish
    refused: bool
    right: bool | None  # None where nothing is known to judge by
    hits: tuple[Hit, ...]  # by rank; () where the arm looks nothing up
    read: int  # the first so many of them stood in the prompt
    seconds: float
    values: Mapping[str, float] = field(default_factory=dict)  # key of METRICS -> value

    @property
    def key(self) -> tuple[str, str]:
        return self.id, self.arm


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a run is. `results` in the order they came; `problems` by arm, why it gave up."""

    done: int
    of: int  # without what an arm that gave up will never have
    left: float | None  # seconds, about; None where that is not known yet
    results: tuple[Result, ...]
    problems: Mapping[str, str]
    now: str = ""  # what is being done


def run(
    asked: Sequence[Question],
    arms: Sequence[Arm],
    bench: Bench,
    *,
    decoding: Decoding = Decoding(),
    done: Sequence[Result] = (),
    cancelled: threading.Event | None = None,
) -> Iterator[Standing]:
    """All results so far after every batch, the first of them before any work.

    `done` are results of the same questions and arms from before; they are not asked again. An arm
    that fails is left with its problem, and the others go on.
    """
    cancelled = cancelled or threading.Event()
    pace = _Pace()
    wanted = {(q.id, arm.name) for q in asked for arm in arms}
    results = {r.key: r for r in done if r.key in wanted}
    problems: dict[str, str] = {}
    # those that look something up first: answers of the others are held against what they found
    order = sorted(arms, key=lambda arm: not arm.retriever)
    at_hand = _AtHand(bench)

    def standing(now: str = "") -> Standing:
        rest = {
            arm.name: sum((q.id, arm.name) not in results for q in asked)
            for arm in arms
            if arm.name not in problems
        }
        return Standing(
            len(results), len(results) + sum(rest.values()), pace.left(rest),
            tuple(results.values()), dict(problems), now,
        )  # fmt: skip

    yield standing("Getting the arms ready")
    for start in range(0, len(asked), BATCH):
        batch = asked[start : start + BATCH]
        for arm in order:
            todo = [q for q in batch if (q.id, arm.name) not in results]
            if not todo or arm.name in problems:
                continue
            if cancelled.is_set():
                return
            evidence = {q.id: _evidence(q.id, order, results) for q in todo}
            begun = time.perf_counter()
            try:
                for result in at_hand.answered(arm, todo, evidence, decoding, cancelled):
                    results[result.key] = result
            except Cancelled:
                return
            except RagdemoError as problem:
                problems[arm.name] = str(problem)
            pace.took(arm.name, len(todo), time.perf_counter() - begun)
            yield standing(arm.name)
            if cancelled.is_set():
                return


def _evidence(id: str, order: Sequence[Arm], results: Mapping) -> tuple[Hit, ...]:
    found = (results.get((id, arm.name)) for arm in order if arm.retriever)
    return next((result.hits for result in found if result), ())


class _Pace:
    """Seconds a row of each arm takes."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._seconds: dict[str, float] = {}

    def took(self, arm: str, rows: int, seconds: float) -> None:
        self._rows[arm] = self._rows.get(arm, 0) + rows
        self._seconds[arm] = self._seconds.get(arm, 0.0) + seconds

    def left(self, rest: Mapping[str, int]) -> float | None:
        """Seconds for the rows that are left; an arm not tried yet takes as long as the mean."""
        if not self._rows:
            return None
        mean = sum(self._seconds.values()) / sum(self._rows.values())
        each = {arm: self._seconds[arm] / rows for arm, rows in self._rows.items()}
        return sum(rows * each.get(arm, mean) for arm, rows in rest.items())


class _AtHand:
    """Corpora, retrievers and generators, each made once in a run."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._made: dict[object, object] = {}

    def _once(self, key: object, make) -> object:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def answered(
        self,
        arm: Arm,
        asked: Sequence[Question],
        evidence: Mapping[str, Sequence[Hit]],
        decoding: Decoding,
        cancelled: threading.Event,
    ) -> Iterator[Result]:
        """The results of the rows that were not stopped."""
        corpus: Corpus = self._once(arm.chunking, lambda: self._bench.corpus(arm.chunking))
        generator: Generator = self._once(
            ("generator", arm.generator), lambda: self._bench.generator(arm.generator)
        )
        found: list[list[Hit]] = [[] for _ in asked]
        searched = [0.0] * len(asked)
        if arm.retriever:
            retriever: Retriever = self._once(
                (arm.retriever, arm.chunking), lambda: self._bench.retriever(arm.retriever, corpus)
            )
            for row, q in enumerate(asked):
                begun = time.perf_counter()
                found[row] = retriever.search(q.question, arm.k)
                searched[row] = time.perf_counter() - begun
        begun = time.perf_counter()
        answers = _written(arm, [q.question for q in asked], found, generator, decoding, cancelled)
        each = (time.perf_counter() - begun) / len(asked)
        for row, answer in answers.items():
            if answer.finish != "cancelled":
                yield _result(
                    arm, asked[row], answer, found[row], evidence[asked[row].id], corpus,
                    searched[row] + each,
                )  # fmt: skip


def _written(
    arm: Arm,
    questions: Sequence[str],
    found: Sequence[Sequence[Hit]],
    generator: Generator,
    decoding: Decoding,
    cancelled: threading.Event,
) -> dict[int, Answer]:
    fused = fusion.check(arm.fusion, generator)
    if fused == "marginalise" and arm.retriever:
        return {
            row: _marginal(q, hits, generator, decoding, cancelled)
            for row, (q, hits) in enumerate(zip(questions, found, strict=True))
        }
    prompts = []
    for question, hits in zip(questions, found, strict=True):
        make = partial(generator.prompt, question, decoding=decoding)
        order = arm.order if fused == "together" else "best first"
        prompts.append(fusion.arranged(make, hits, order) if hits else make([]))
    return _streamed(generator, prompts, decoding, cancelled)


def _streamed(
    generator: Generator, prompts: Sequence[Prompt], decoding: Decoding, cancelled: threading.Event
) -> dict[int, Answer]:
    rows = len(prompts)
    steps = generator.stream(prompts, [decoding] * rows, [cancelled] * rows)
    return {step.row: step.answer for step in steps if step.answer}


def _marginal(
    question: str,
    hits: Sequence[Hit],
    generator: Generator,
    decoding: Decoding,
    cancelled: threading.Event,
) -> Answer:
    """RAG-Sequence: a candidate from each passage, the likeliest under all of them."""
    prompts = [generator.prompt(question, [hit], decoding=decoding) for hit in hits]
    if not prompts:
        prompts = [generator.prompt(question, [], decoding=decoding)]
    own = _streamed(generator, prompts, decoding, cancelled)
    answers = [own[row] for row in range(len(prompts))]
    best = answers[fusion.leading(answers)]
    if hits:
        for news in fusion.weigh(generator, prompts, hits, answers, cancelled):
            if isinstance(news, Marginal):
                best = answers[news.written_from[news.winner][0]]
    return best


def _result(
    arm: Arm,
    asked: Question,
    answer: Answer,
    hits: Sequence[Hit],
    evidence: Sequence[Hit],
    corpus: Corpus,
    seconds: float,
) -> Result:
    said_nothing = refused(answer)
    c = case(
        asked, answer.text, said_nothing, hits, hits or evidence,
        files=corpus.files, k=arm.k if arm.retriever else 0, seconds=seconds,
    )  # fmt: skip
    read = len(hits) if arm.fusion == "marginalise" else len(answer.prompt.used)
    return Result(
        id=asked.id,
        arm=arm.name,
        answer=answer.text,
        finish=answer.finish,
        refused=said_nothing,
        right=is_right(c),
        hits=tuple(hits),
        read=read,
        seconds=seconds,
        values=measured(c),
    )
