"""Train a generator to answer: with retrieved passages before it, or closed-book without them.

The loss is the language model's, -log p(answer | question, passages) a token; nothing is learnt of
the prompt itself. The bundled model learns what it was first trained with as well, to choose the
sentence (`training.mini`). Any causal or encoder-decoder model can be taught, whole or by LoRA (Hu
et al. 2021, https://arxiv.org/abs/2106.09685), whose small matrices are merged in at the end.

Closed-book fine-tuning (Roberts et al. 2020, https://arxiv.org/abs/2002.08910) is what retrieval is
compared with: the facts go into the weights, and stay as they were on that day.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ragdemo.corpus import Corpus
from ragdemo.embedding import Encoder, minilm_path, native_bf16
from ragdemo.errors import RagdemoError
from ragdemo.evaluation.answers import f1
from ragdemo.evaluation.questions import Question
from ragdemo.generation.base import Generator, run
from ragdemo.generation.mini import MiniGenerator
from ragdemo.generation.mini.source import passage_of
from ragdemo.pipeline import retrieve
from ragdemo.training import mini
from ragdemo.training.likelihood import answer_log_likelihoods, network
from ragdemo.training.loop import Losses
from ragdemo.training.mini_data import Item, Text
from ragdemo.training.mini_tensors import Tensors
from ragdemo.training.pairs import evidence, from_questions
from ragdemo.training.retriever import Batches
from ragdemo.training.tuning import HELD_OUT, Held, News, Plan, tune
from ragdemo.types import Decoding, Hit, Span

METRIC = "F1"
ROWS = 8  # questions answered together while measuring
DECODING = Decoding(max_tokens=64)
GROUNDED = Plan(steps=30, batch=3, rate=5e-5, every=10, patience=2)
CLOSED = Plan(steps=40, batch=16, rate=3e-4, every=20, patience=2)
LORA_RANK = 8


@dataclass(frozen=True, slots=True)
class Lesson:
    """A question with the answer to learn, and what is read before answering."""

    question: str
    answer: str
    short: tuple[str, ...]
    hits: tuple[Hit, ...]  # () where nothing is read: closed-book
    gold: tuple[int, int, int] | None = None  # (place in hits, start, end) of the sentence


def lessons(
    examples: Sequence[Question],
    corpus: Corpus,
    k: int = 5,
    *,
    closed_book: bool = False,
    teaching: bool = False,
) -> list[Lesson]:
    """What each question is answered from: the `k` passages that retrieval finds.

    Where `teaching`, and the passage with the answer is not among them, it takes the last place: a
    model taught to answer from passages that do not say it is taught to make things up.
    """
    made = []
    for example in examples:
        answer = example.answer or ", ".join(example.short[:1])
        if not answer:
            continue
        if closed_book:
            made.append(Lesson(example.question, answer, example.short, ()))
            continue
        hits = retrieve(example.question, corpus, k)
        gold = evidence(example, hits)
        if gold is None and teaching:
            for pair in from_questions([example], corpus):
                hits = [*hits[: k - 1], Hit(pair.gold, 0.0, k, "dense")]
            gold = evidence(example, hits)
        made.append(Lesson(example.question, answer, example.short, tuple(hits), gold))
    return made


def parted(
    examples: Sequence[Question], seed: int = 0, shares: tuple[float, float] = (0.5, 0.2)
) -> tuple[list[Question], list[Question], list[Question]]:
    """The questions about one document drawn into those to learn, to watch and to test with."""
    order = random.Random(seed).sample(list(examples), len(examples))
    first = max(1, round(shares[0] * len(order)))
    second = first + max(1, round(shares[1] * len(order)))
    return order[:first], order[first:second], order[second:]


def answers(generator: Generator, taught: Sequence[Lesson]) -> list[str]:
    """Greedy, `ROWS` at a time; "" where the model says that it doesn't know."""
    said: list[str] = []
    for start in range(0, len(taught), ROWS):
        part = taught[start : start + ROWS]
        prompts = [generator.prompt(t.question, t.hits, decoding=DECODING) for t in part]
        with torch.autocast("cpu", torch.bfloat16, enabled=_wide(generator)):
            found = run(generator, prompts, [DECODING] * len(prompts))
        said += ["" if a.finish == "refused" else a.text for a in found]
    return said


def _wide(generator: Generator) -> bool:
    """Whether bfloat16 is worth it: a network in float32 on a processor that multiplies it."""
    network = getattr(generator, "_model", None)
    return (
        isinstance(generator, MiniGenerator)
        and native_bf16()
        and next(network.parameters()).dtype == torch.float32
    )


def scores(generator: Generator, taught: Sequence[Lesson]) -> list[float]:
    """Word F1 of each answer against the one expected, 0..1."""
    said = answers(generator, taught)
    return [f1(text, [t.answer]) for text, t in zip(said, taught, strict=True)]


def train_generator(
    generator: Generator,
    train: Sequence[Lesson],
    watch: Sequence[Lesson],
    test: Sequence[Lesson] = (),
    plan: Plan = GROUNDED,
    *,
    lora: bool = False,
    watched: str = HELD_OUT,
    cancelled: threading.Event | None = None,
) -> Iterator[News]:
    """`generator` was loaded for this training alone (float32) and is trained in place; `make()`
    gives what is used and saved. What is watched, and what that is called, and the test questions
    are measured by word F1."""
    if not train:
        raise RagdemoError("There is no question with an answer to learn from. Add some.")
    model = network(generator)
    merge = _adapted(model, plan.seed) if lora else lambda: None
    batches = Batches(train, plan.batch, plan.seed)
    loss = _mini_loss(generator) if isinstance(generator, MiniGenerator) else _loss(generator)

    def measured() -> Held:
        both = [*watch, *test]
        said = answers(generator, both)
        values = tuple(f1(text, [t.answer]) for text, t in zip(said, both, strict=True))
        return Held(values[: len(watch)], values[len(watch) :], -loss_of(watch))

    @torch.no_grad()
    def loss_of(part: Sequence[Lesson]) -> float:
        told = [loss(list(part[n : n + plan.batch])) for n in range(0, len(part), plan.batch)]
        return sum(float(sum(t.parts.values())) * t.examples for t in told) / max(1, len(part))

    return tune(
        model,
        _groups(model, plan.rate),
        lambda _share: loss(batches.next()),
        plan,
        watch=measured,
        name="low-rank matrices (LoRA)" if lora else "the whole generator",
        metric=METRIC,
        make=lambda: finished(generator, merge),
        watched=watched,
        cancelled=cancelled,
    )


def _groups(model: nn.Module, rate: float) -> list[dict]:
    return [{"params": [p for p in model.parameters() if p.requires_grad], "peak": rate}]


def _loss(generator: Generator) -> Callable[[list[Lesson]], Losses]:
    def loss(batch: list[Lesson]) -> Losses:
        prompts = [generator.prompt(t.question, t.hits, decoding=DECODING) for t in batch]
        sums, counts = answer_log_likelihoods(generator, prompts, [t.answer for t in batch])
        return Losses({"write": -sums.sum() / counts.sum()}, len(batch))

    return loss


def _mini_loss(generator: MiniGenerator) -> Callable[[list[Lesson]], Losses]:
    # the fused attention stays: eager is a fifth faster here and takes 60% more memory
    tensors = Tensors()

    def loss(batch: list[Lesson]) -> Losses:
        write, select = mini.losses(generator._model, tensors.batch([item(t) for t in batch]))
        return Losses({"write": write, "select": select}, len(batch))

    return loss


def item(taught: Lesson) -> Item:
    """A lesson as the bundled model's own training takes it."""
    if not taught.hits:
        return Item("closed", taught.question, (), taught.answer)
    passages = tuple(Text(*passage_of(hit.chunk)) for hit in taught.hits)
    gold = ()
    if taught.gold:
        number, start, end = taught.gold
        gold = ((number, Span(start, end)),)
    target = taught.answer if gold else ""  # what the passages don't say is not to be said
    return Item("answer", taught.question, passages, target, gold, taught.short)


def _adapted(model: nn.Module, seed: int) -> Callable[[], None]:
    """Put LoRA matrices beside every linear layer, the rest frozen; returns what merges them in."""
    try:
        import peft
    except ImportError as problem:
        raise RagdemoError(
            'LoRA needs one more package: pip install "peft>=0.21". Or train the whole model.'
        ) from problem
    if isinstance(getattr(model, "bart", None), nn.Module):
        raise RagdemoError(
            "The bundled generator is small enough to be trained whole: switch LoRA off."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = peft.get_peft_model(
            model, peft.LoraConfig(r=LORA_RANK, target_modules="all-linear")
        )
    return lambda: adapted.merge_and_unload() if hasattr(model, "peft_config") else None


def finished(
    generator: Generator, merge: Callable[[], object], encoder: Encoder | None = None
) -> Generator:
    """The trained generator under a name of its own. The bundled one goes through the form it is
    stored in, so that what is used is what a saved copy will be; where it was trained without an
    encoder to weigh sentences by, it gets this one."""
    merge()
    if not isinstance(generator, MiniGenerator):
        generator.name = named(generator.name)
        return generator
    with tempfile.TemporaryDirectory() as name:
        save_mini(generator, Path(name))
        made = MiniGenerator(Path(name), encoder=generator._encoder or encoder)
    made.name = named(generator.name)
    return made


def named(name: str) -> str:
    """The name of what was trained from the model of this name."""
    return name if name.endswith(", fine-tuned") else f"{name}, fine-tuned"


def save_mini(generator: MiniGenerator, folder: Path) -> None:
    """As `mini.weights.load` reads it, in float16: the steps of a fine-tuning are smaller than
    those of the bundled int8 weights, which would round them away (measured: every one)."""
    folder.mkdir(parents=True, exist_ok=True)
    state = generator._model.state_dict()
    tied = ("bart.encoder.embed_tokens.weight", "bart.decoder.embed_tokens.weight")
    kept = {name: value.half().contiguous() for name, value in state.items() if name not in tied}
    save_file(kept, str(folder / "model.safetensors"))
    (folder / "config.json").write_text(json.dumps(asdict(generator.facts), indent=1) + "\n")
    shutil.copy(minilm_path() / "tokenizer.json", folder / "tokenizer.json")
