"""Train question encoder and generator end to end: the RAG-Sequence likelihood.

    -log p(y|x) = -log sum over z of p(z|x) p(y|x,z)        (Lewis et al. 2020, section 2.4,
                                                              https://arxiv.org/abs/2005.11401)

z runs over the k passages that the question encoder finds now; p(z|x) is the softmax of its scores.
Nobody says which passage is right: one under which the answer is likely pulls the question's vector
towards it. The passages' vectors, and with them the index, stay as they are. Of the question
encoder either a linear head behind it learns, or a whole copy, as in the paper.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from ragdemo.corpus import Corpus
from ragdemo.embedding import DPREncoder, Encoder, SentenceTransformerEncoder
from ragdemo.errors import RagdemoError
from ragdemo.fusion import TEMPERATURES
from ragdemo.generation.base import Generator
from ragdemo.training.dual import DualEncoder
from ragdemo.training.generator import DECODING, finished
from ragdemo.training.head import Head, Headed
from ragdemo.training.likelihood import answer_log_likelihoods, network
from ragdemo.training.loop import Losses
from ragdemo.training.pairs import Pair, Split
from ragdemo.training.retriever import METRIC, Batches, Examiner, Towers, ready
from ragdemo.training.tuning import Held, News, Plan, Shares, tune
from ragdemo.types import Chunk, Hit

JOINT = Plan(steps=60, batch=4, rate=3e-3, every=10, patience=4)  # of a head
JOINT_ENCODER = replace(JOINT, rate=5e-5)  # of a whole question encoder
READ = 32  # questions read together while measuring
WRITER_RATE = 1e-5  # the generator's; its part of the sum is right from the beginning


def marginal_loss(scores: Tensor, log_likelihoods: Tensor) -> Tensor:
    """Mean of -log p(y|x). `scores` [b, k]: retrieval scores over their temperature, whose softmax
    is p(z|x); `log_likelihoods` [b, k]: log p(y|x,z) of the whole answer."""
    return -(scores.log_softmax(1) + log_likelihoods).logsumexp(1).mean()


@dataclass(frozen=True, slots=True)
class Shift:
    """How p(z|x) moved for one question, over the passages found before or after."""

    question: str
    chunks: tuple[Chunk, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def labels(self) -> list[str]:
        return [_label(chunk) for chunk in self.chunks]


@dataclass(frozen=True)
class Jointly:
    """What was trained: an encoder that reads questions anew and passages as before, and a
    generator."""

    encoder: Headed | DualEncoder
    generator: Generator

    def shift(self, question: str, corpus: Corpus, k: int = 5) -> Shift:
        """`corpus` holds the passages' vectors, which training left as they were."""
        warmth = TEMPERATURES[self.encoder.similarity]
        both = [
            corpus.vectors @ encoder.encode_queries([question])[0] / warmth
            for encoder in (self.encoder.inner, self.encoder)
        ]
        shown = sorted({i for s in both for i in np.argsort(-s, kind="stable")[:k].tolist()})
        shares = [np.exp(s[shown] - s[shown].max()) for s in both]
        before, after = (tuple((s / s.sum()).tolist()) for s in shares)
        return Shift(question, tuple(corpus.chunks[i] for i in shown), before, after)


def train_jointly(
    split: Split,
    corpus: Corpus,
    generator: Generator,
    plan: Plan = JOINT,
    *,
    k: int = 4,
    encoder: SentenceTransformerEncoder | DPREncoder | None = None,
    writer_rate: float = WRITER_RATE,
    cancelled: threading.Event | None = None,
) -> Iterator[News]:
    """What reads the questions, and `generator`, which is private to this training. So is
    `encoder`, whose question side is trained whole where one is given: the same weights as the
    corpus's encoder, float32. Without it a head learns behind that one. Held-out questions are
    measured by whether their first passage is right. `make()` gives a `Jointly`."""
    taught = [pair for pair in split.train if _answer(pair)]
    if not taught:
        raise RagdemoError("End-to-end training needs questions with answers. Add some.")
    held = [*split.watch, *split.test]
    side = (
        _QuestionEncoder(encoder, corpus.encoder)
        if encoder
        else _QuestionHead(corpus.encoder, (*taught, *held))
    )
    vectors = torch.from_numpy(np.array(corpus.vectors))
    examiner = Examiner(split, corpus, plan.seed)
    pool = vectors[[corpus.number(chunk.id) for chunk in examiner.chunks]].numpy()
    batches = Batches(taught, plan.batch, plan.seed)
    warmth = TEMPERATURES[corpus.encoder.similarity]
    k = min(k, len(corpus.chunks))

    def step(_share: float) -> Losses:
        batch = batches.next()
        moved = side.read([pair.question for pair in batch])
        with torch.autocast("cpu", enabled=False):
            scores, found = (moved @ vectors.T / warmth).topk(k)  # [b, k]
        logs = _alone(generator, corpus, batch, found)
        return Losses({"marginal": marginal_loss(scores, logs)}, len(batch))

    @torch.no_grad()
    def watch() -> Held:
        texts = [pair.question for pair in held]
        parts = [side.read(texts[n : n + READ]) for n in range(0, len(texts), READ)]
        moved = torch.cat(parts) if parts else vectors[:0]
        told = examiner.held(moved.numpy(), pool)
        return replace(told, shares=shares(held[0].question, moved[0])) if held else told

    def shares(question: str, moved: Tensor) -> Shares:
        """p(z|x) over the passages that the question finds now."""
        scores, found = (vectors @ moved / warmth).topk(k)
        labels = [_label(corpus.chunks[place]) for place in found.tolist()]
        return Shares(question, tuple(zip(labels, scores.softmax(0).tolist(), strict=True)))

    writer = network(generator)
    return tune(
        nn.ModuleList([side.network, writer]),
        [
            {"params": list(side.network.parameters()), "peak": plan.rate},
            {"params": list(writer.parameters()), "peak": writer_rate},
        ],
        step,
        plan,
        watch=watch,
        name=f"{side.name} and generator, end to end",
        metric=METRIC,
        make=lambda: Jointly(side.made(), finished(generator, lambda: None, corpus.encoder)),
        cancelled=cancelled,
    )


class _QuestionHead:
    """A head behind the corpus's encoder, which is asked once for all questions."""

    name = "question head"

    def __init__(self, encoder: Encoder, pairs: Sequence[Pair]) -> None:
        self._encoder = encoder
        self.network = Head(encoder.dimension, unit=encoder.similarity == "cosine")
        texts = list(dict.fromkeys(pair.question for pair in pairs))
        self._number = {text: row for row, text in enumerate(texts)}
        self._vectors = torch.from_numpy(encoder.encode_queries(texts))

    def read(self, questions: Sequence[str]) -> Tensor:
        """[n, d], with gradients"""
        with torch.autocast("cpu", enabled=False):
            return self.network(self._vectors[[self._number[text] for text in questions]])

    def made(self) -> Headed:
        return Headed(self._encoder, self.network.matrix, questions_only=True)


class _QuestionEncoder:
    """A question encoder of its own; the passages stay with the corpus's."""

    name = "question encoder"

    def __init__(self, encoder: SentenceTransformerEncoder | DPREncoder, passages: Encoder) -> None:
        self._encoder, self._passages = encoder, passages
        towers = Towers(encoder)
        dpr = isinstance(encoder, DPREncoder)
        self.network: nn.Module = encoder._questions._model if dpr else towers.network
        self.read: Callable[[Sequence[str]], Tensor] = towers.questions

    def made(self) -> DualEncoder:
        return DualEncoder(self._passages, ready(self._encoder))


def _label(chunk: Chunk) -> str:
    """A passage in a table or a chart's legend."""
    return f"{chunk.document_name} · {' '.join(chunk.text.split())[:60]}"


def _answer(pair: Pair) -> str:
    example = pair.example
    return (example.answer or ", ".join(example.short[:1])) if example else ""


def _alone(generator: Generator, corpus: Corpus, batch: Sequence[Pair], found: Tensor) -> Tensor:
    """[b, k] log p(answer | question, passage) with each passage read alone."""
    prompts, texts = [], []
    for pair, row in zip(batch, found.tolist(), strict=True):
        for rank, place in enumerate(row, start=1):
            hit = Hit(corpus.chunks[place], 0.0, rank, "dense")
            prompts.append(generator.prompt(pair.question, [hit], decoding=DECODING))
            texts.append(_answer(pair))
    sums, _ = answer_log_likelihoods(generator, prompts, texts)
    return sums.view(found.shape)


def parts(model: object) -> tuple[Encoder | None, Generator | None]:
    """The encoder and the generator of a trained model, where it has them."""
    if isinstance(model, Jointly):
        return model.encoder, model.generator
    return (model, None) if hasattr(model, "encode_queries") else (None, model)


def marginal(
    split_part: Sequence[Pair], corpus: Corpus, trained: Jointly | tuple, k: int = 4
) -> float:
    """Mean -log p(y|x) of these questions: what end-to-end training lowers."""
    encoder, generator = (
        (trained.encoder, trained.generator) if isinstance(trained, Jointly) else trained
    )
    taught = [pair for pair in split_part if _answer(pair)]
    queries = encoder.encode_queries([pair.question for pair in taught])
    scores = torch.from_numpy(queries @ corpus.vectors.T / TEMPERATURES[encoder.similarity])
    best, found = scores.topk(min(k, scores.shape[1]))
    logs = []
    with torch.inference_mode():
        for row, pair in enumerate(taught):
            logs.append(_alone(generator, corpus, [pair], found[row : row + 1]))
    return float(marginal_loss(best, torch.cat(logs))) if taught else 0.0
