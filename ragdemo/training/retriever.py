"""Train a retriever by contrast: a question's vector towards its passage, away from others.

Multiple negatives ranking (Henderson et al. 2017, https://arxiv.org/abs/1705.00652; DPR's loss,
Karpukhin et al. 2020, https://arxiv.org/abs/2004.04906): every question of a batch has to pick its
passage among those of the whole batch and the hard negatives. Trained are a linear head on frozen
vectors, a whole sentence-transformers encoder, or DPR's two towers.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ragdemo.corpus import Corpus
from ragdemo.embedding import DPREncoder, Encoder, SentenceTransformerEncoder, native_bf16
from ragdemo.fusion import TEMPERATURES
from ragdemo.training.head import Head, Headed
from ragdemo.training.loop import Losses
from ragdemo.training.pairs import Pair, Split
from ragdemo.training.tuning import Held, News, Plan, tune
from ragdemo.types import Chunk

METRIC = "recall@1"
POOL = 400  # passages that held-out questions choose among: all of them read anew would take longer
# the rate is the gentlest of three tried (1e-4, 3e-4, 1e-3), by the sample documents' five splits
HEAD = Plan(steps=200, batch=32, rate=1e-4, every=10, patience=8)
ENCODER = Plan(steps=60, batch=12, rate=2e-5, every=15, patience=2)


def contrastive(
    questions: Tensor, passages: Tensor, temperature: float, also_right: Tensor | None = None
) -> Tensor:
    """Mean of -log p(own passage | question), p a softmax of inner products over `temperature`.

    `questions` [b, d]; `passages` [c, d], c >= b, the i-th the i-th question's own, those behind
    them negatives of all. `also_right` [b, c] bool: no negative for this question, left out. For
    vectors that are all equal it is log(c): chance.
    """
    scores = questions.float() @ passages.float().T / temperature  # [b, c]
    if also_right is not None:
        scores = scores.masked_fill(also_right, -torch.inf)
    return F.cross_entropy(scores, torch.arange(len(questions), device=scores.device))


class Batches:
    """Pairs in random order, again and again; the order depends on the seed alone."""

    def __init__(self, pairs: Sequence, size: int, seed: int) -> None:
        self._pairs = list(pairs)
        self._size = min(size, len(self._pairs))
        self._random = random.Random(seed)
        self._left: list = []

    def next(self) -> list:
        if len(self._left) < self._size:
            self._left = self._random.sample(self._pairs, len(self._pairs))
        batch, self._left = self._left[: self._size], self._left[self._size :]
        return batch


def candidates(batch: Sequence[Pair]) -> tuple[list[Chunk], Tensor]:
    """The batch's own passages, then its hard negatives, and [b, c] which of them are right for a
    question besides its own: two questions may ask about one page."""
    chunks = [pair.gold for pair in batch] + [pair.hard for pair in batch if pair.hard]
    right = torch.tensor(
        [[i != j and pair.right(c) for j, c in enumerate(chunks)] for i, pair in enumerate(batch)]
    )
    return chunks, right


class Examiner:
    """Asks the held-out questions over a fixed pool of passages."""

    def __init__(self, split: Split, corpus: Corpus, seed: int = 0) -> None:
        self.pairs = [*split.watch, *split.test]
        self._watched = len(split.watch)
        self.chunks = _pool(split, corpus, seed)
        self._right = np.array(
            [[pair.right(chunk) for chunk in self.chunks] for pair in self.pairs], dtype=bool
        ).reshape(len(self.pairs), len(self.chunks))

    def held(self, questions: np.ndarray, passages: np.ndarray) -> Held:
        """From the vectors of `pairs` and `chunks`: recall@1 a question, ties by their MRR."""
        if not self.pairs:
            return Held(())
        order = np.argsort(-(questions @ passages.T), axis=1, kind="stable")
        ranks = np.take_along_axis(self._right, order, 1).argmax(1) + 1
        firsts = tuple((ranks == 1).astype(float).tolist())
        tie = float(np.mean(1 / ranks[: self._watched])) if self._watched else 0.0
        return Held(firsts[: self._watched], firsts[self._watched :], tie)

    def ask(self, encoder: Encoder) -> Held:
        return self.held(
            encoder.encode_queries([pair.question for pair in self.pairs]),
            encoder.encode_passages([chunk.content for chunk in self.chunks]),
        )


def _pool(split: Split, corpus: Corpus, seed: int) -> list[Chunk]:
    chunks = corpus.chunks
    if len(chunks) <= POOL:
        return list(chunks)
    held = [*split.watch, *split.test]
    needed = {c.id for p in held for c in (p.gold, p.hard) if c}
    others = [c for c in chunks if c.id not in needed]
    drawn = random.Random(seed).sample(others, max(0, min(len(others), POOL - len(needed))))
    kept = needed | {c.id for c in drawn}
    return [c for c in chunks if c.id in kept]


def train_head(
    split: Split,
    corpus: Corpus,
    plan: Plan = HEAD,
    *,
    cancelled: threading.Event | None = None,
) -> Iterator[News]:
    """A `Head` behind the corpus's encoder, on questions and passages alike; `make()` gives it as a
    `Headed`. Vectors are read off the corpus, so a step costs milliseconds."""
    encoder = corpus.encoder
    cosine = encoder.similarity == "cosine"
    head = Head(encoder.dimension, unit=cosine)
    vectors = torch.from_numpy(np.array(corpus.vectors))
    asked = [pair.question for pair in (*split.train, *split.watch, *split.test)]
    questions = torch.from_numpy(encoder.encode_queries(asked))
    number = {pair.question: row for row, pair in enumerate((*split.train, *split.watch))}
    examiner = Examiner(split, corpus, plan.seed)
    pool = vectors[[corpus.number(chunk.id) for chunk in examiner.chunks]]
    batches = Batches(split.train, plan.batch, plan.seed)

    def step(_share: float) -> Losses:
        batch = batches.next()
        chunks, right = candidates(batch)
        with torch.autocast("cpu", enabled=False):
            asked = head(questions[[number[pair.question] for pair in batch]])
            read = head(vectors[[corpus.number(chunk.id) for chunk in chunks]])
            loss = contrastive(asked, read, TEMPERATURES[encoder.similarity], right)
        return Losses({"contrast": loss}, len(batch))

    @torch.no_grad()
    def watch() -> Held:
        held = questions[len(split.train) :]
        return examiner.held(head(held).numpy(), head(pool).numpy())

    return tune(
        head,
        [{"params": list(head.parameters()), "peak": plan.rate}],
        step,
        plan,
        watch=watch,
        name="a linear head",
        metric=METRIC,
        make=lambda: Headed(encoder, head.matrix),
        cancelled=cancelled,
    )


class Towers:
    """A private encoder whose network is trained in place: vectors with gradients, both sides."""

    def __init__(self, encoder: SentenceTransformerEncoder | DPREncoder) -> None:
        """`encoder` was loaded for this training alone, in float32."""
        self.encoder = encoder
        self.temperature = TEMPERATURES[encoder.similarity]
        self.network: nn.Module
        self.questions: Callable[[Sequence[str]], Tensor]
        self.passages: Callable[[Sequence[str]], Tensor]
        if isinstance(encoder, DPREncoder):
            towers = encoder._questions, encoder._passages
            self.network = nn.ModuleList([tower._model for tower in towers])
            self.questions, self.passages = (_dpr(tower) for tower in towers)
        else:
            self.network = encoder._model
            self.questions = self.passages = self._sentence

    def _sentence(self, texts: Sequence[str]) -> Tensor:
        """[n, d], rows of length 1"""
        made = self.network(self.network.preprocess(list(texts)))["sentence_embedding"]
        return F.normalize(made.float(), dim=-1)


def _dpr(tower) -> Callable[[Sequence[str]], Tensor]:
    def encode(texts: Sequence[str]) -> Tensor:
        batch = tower._tokenizer(
            list(texts), padding=True, truncation=True, max_length=tower.limit, return_tensors="pt"
        )
        return tower._model(**batch).pooler_output

    return encode


def train_encoder(
    split: Split,
    corpus: Corpus,
    encoder: SentenceTransformerEncoder | DPREncoder,
    plan: Plan = ENCODER,
    *,
    cancelled: threading.Event | None = None,
) -> Iterator[News]:
    """All weights of `encoder`, which is private to this training and is what `make()` gives."""
    towers = Towers(encoder)
    examiner = Examiner(split, corpus, plan.seed)
    batches = Batches(split.train, plan.batch, plan.seed)

    def step(_share: float) -> Losses:
        batch = batches.next()
        chunks, right = candidates(batch)
        asked = towers.questions([pair.question for pair in batch])
        read = towers.passages([chunk.content for chunk in chunks])
        with torch.autocast("cpu", enabled=False):
            loss = contrastive(asked, read, towers.temperature, right)
        return Losses({"contrast": loss}, len(batch))

    return tune(
        towers.network,
        [{"params": list(towers.network.parameters()), "peak": plan.rate}],
        step,
        plan,
        watch=lambda: examiner.ask(encoder),
        name="the whole encoder",
        metric=METRIC,
        make=lambda: ready(encoder),
        cancelled=cancelled,
    )


def encoder_named(encoder: SentenceTransformerEncoder | DPREncoder, network: nn.Module) -> None:
    """Give trained weights a name that no other weights have: an index knows its encoder by it."""
    digest = hashlib.sha256()
    for value in network.parameters():
        digest.update(value.detach().float().numpy().tobytes())
    base = encoder.name.split(", fine-tuned")[0]
    encoder.name = f"{base}, fine-tuned {digest.hexdigest()[:8]}"


def ready(encoder: SentenceTransformerEncoder | DPREncoder) -> Encoder:
    """A trained encoder as it is used: rounded to float16, which is saved, in bfloat16 where that
    is quick, and named by its weights as they then are, so that a saved copy has the same name."""
    if isinstance(encoder, SentenceTransformerEncoder):
        encoder._model.half().float()
        if native_bf16():
            encoder._try_bf16()
    encoder_named(encoder, Towers(encoder).network)
    return encoder
