"""Train ragdemo-mini: `python -m ragdemo train mini --data DIR --out DIR --minutes M`.

Three stages share the time: copying (find the sentence that holds these words), one passage,
several passages with near misses and refusals. Every step minimises
  - log p(target | question, passages)          the language-model loss of the mixture head
  - log p(the tokens that hold the answer)      the selector; [CLS] where nothing holds it
Copying is learnt long before choosing, so in the last stage most steps leave the first, and
with it the decoder, out: 1.6 times the rows a second.
Resumable from `OUT/checkpoint.pt`, seeded, bf16 where the processor has it, batches of similar
length; `--minutes` bounds a run and the learning rate reaches zero at its end.
"""

from __future__ import annotations

import argparse
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from ragdemo.embedding import minilm_path
from ragdemo.generation.mini.decode import greedy_ids
from ragdemo.generation.mini.model import AROUND, NULL, MiniModel, from_minilm, log_likelihood
from ragdemo.generation.mini.weights import Facts
from ragdemo.generation.mini.weights import load as load_weights
from ragdemo.generation.mini.weights import save as save_weights
from ragdemo.training.loop import Losses, Progress, Run, fit, resume
from ragdemo.training.mini_calibrate import calibrate
from ragdemo.training.mini_data import (
    TRICKY,
    Item,
    Mixer,
    closed_items,
    copy_items,
    load,
    paragraphs,
)
from ragdemo.training.mini_tensors import Batch, Tensors


@dataclass(frozen=True)
class Stage:
    """What is drawn until this share of the run is over."""

    name: str
    until: float
    several: float = 0.0  # chance of near misses beside the gold passage
    refuse: float = 0.0  # share of rows without an answer
    ask: float = 0.0  # share of rows that write the question
    closed: float = 0.0  # share of rows without passages; they cost a tenth of the others
    tricks: float = 0.0  # share of questions that look answered, and of those asked beside them
    choose: float = 0.0  # share of the rows that only choose, and write nothing
    copies: bool = False  # the warm-up's made-up queries instead of questions


STAGES = (
    Stage("copy", 0.06, copies=True),
    Stage("one", 0.40, several=0.3, refuse=0.05, ask=0.1, closed=0.2),
    Stage(
        "several",
        1.0,
        several=0.7,
        refuse=0.15,
        ask=0.15,
        closed=0.05,
        tricks=0.7,
        choose=0.7,
    ),
)
CAP_TOKENS = 3_600  # encoder tokens in a batch on two cores; a GPU takes ten times that
CAP_ROWS = 24
FREE_WEIGHT = 0.3  # of a written token in the tasks without a selection
PEAK = {"encoder": 1.5e-4, "rest": 4e-4}


def losses(model: MiniModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean -log p of a target token, mean -log p of the answer's place).

    The place counts half as the very tokens of the answer and half as their sentence, which is
    what an answer is written from.
    """
    encoded = model.encode(batch.source)
    kept = batch.labels > 0
    if kept.any():
        told = model.focused(encoded, batch.about, AROUND)
        step = model.decode(batch.inputs, told)
        # rows that find nothing to copy lose ten times as much a token and would drown the others
        weight = torch.where(batch.selects, 1.0, FREE_WEIGHT)[kept.nonzero()[:, 0]]
        write = (-log_likelihood(step, told, batch.labels, kept) * weight).mean()
    else:
        write = torch.zeros(())
    if batch.selects.any():
        spot = encoded.spot.masked_fill(~batch.spots, -1e4).logsumexp(1)
        held = torch.zeros_like(encoded.selection)
        held.scatter_add_(1, batch.source.sentence.clamp(min=0), batch.spots.to(held.dtype))
        sentence = encoded.selection.masked_fill(held == 0, -1e4).logsumexp(1)
        place = (spot.clamp(min=-20) + sentence.clamp(min=-20)) / 2
        select = -place[batch.selects].mean()
    else:
        select = torch.zeros(())
    return write, select


def batches(
    draw: Callable[[bool], Item],
    encoder: Tensors,
    rng: random.Random,
    cap: int,
    choose: float = 0.0,
) -> Iterator[Batch]:
    """Endless batches of rows of similar length under `cap` encoder tokens, with `choose` chance
    of those whose rows only choose; `draw` is told whether a row will be written."""
    while True:
        write = rng.random() >= choose
        pool = [draw(write) for _ in range(160)]
        # characters / 4.2 is close enough to word pieces for packing
        sizes = {
            id(i): sum(len(p.text) + len(i.question) + 30 for p in i.passages) / 4.2 + 12
            for i in pool
        }
        pool.sort(key=lambda i: sizes[id(i)])
        packed: list[list[Item]] = [[]]
        total = 0.0
        for item in pool:
            if packed[-1] and (
                total + sizes[id(item)] > cap or len(packed[-1]) >= max(CAP_ROWS, cap // 150)
            ):
                packed.append([])
                total = 0.0
            packed[-1].append(item)
            total += sizes[id(item)]
        rng.shuffle(packed)
        for items in packed:
            batch = encoder.batch(items, write)
            if batch.selects.any() or batch.labels.any():
                yield batch


def found(text: str, short: tuple[str, ...]) -> bool:
    """One of the accepted short answers stands in the text, spacing and case aside."""
    squeezed = "".join(text.lower().split())
    return any("".join(s.lower().split()) in squeezed for s in short)


@torch.inference_mode()
def watch(
    model: MiniModel, encoder: Tensors, items: list[Item], device: str = "cpu"
) -> dict[str, float]:
    """Held-out rows: short answer in the greedy output, the right sentence chosen, refusals."""
    hits = chosen = refused = wrongly = 0
    answerable = [i for i in items if i.target]
    for start in range(0, len(items), 16):
        part = items[start : start + 16]
        batch = Batch(*(v.to(device) for v in vars(encoder.batch(part)).values()))
        encoded = model.encode(batch.source)
        null = encoded.selection[:, NULL].exp() > 0.5
        best = encoded.spot.masked_fill(batch.source.sentence <= NULL, -1e4).argmax(1)
        sentence = batch.source.sentence.gather(1, best.unsqueeze(1))
        right = (batch.spots & (batch.source.sentence == sentence)).any(1)
        rows = greedy_ids(model, encoded)
        for i, item in enumerate(part):
            if not item.target:
                refused += bool(null[i])
                continue
            wrongly += bool(null[i])
            chosen += bool(right[i])
            said = encoder.tokenizer.decode(rows[i]).replace(" ##", "")
            hits += found(said, item.short)
    no = max(1, len(items) - len(answerable))
    yes = max(1, len(answerable))
    return {
        "found": hits / yes,
        "chosen": chosen / yes,
        "refused": refused / no,
        "wrongly_refused": wrongly / yes,
    }


WATCHED = {
    "": ("squad_train_subset", "qed_train"),
    "pages ": ("pages",),
    "tricks ": TRICKY,  # alone with their passage
}


def watched_items(
    held: list[Item], mixer: Mixer, count: int, sources: tuple[str, ...]
) -> list[Item]:
    """A fixed held-out sample: the gold passage beside near misses, and unanswerable ones."""
    rng = random.Random(7)
    pool = [i for i in held if i.source in sources]
    told = [i for i in pool if i.target and i.short]
    silent = [i for i in pool if not i.target]
    yes = rng.sample(told, min(count, len(told)))
    if sources == TRICKY:
        return yes + rng.sample(silent, min(count, len(silent)))
    no = rng.sample(silent, min(count // 3, len(silent)))
    return [mixer.beside(i, 1.0, rng) for i in yes] + no


def start_model(start: Path | None = None) -> MiniModel:
    """The network to train: MiniLM's weights, or those of `start`, a checkpoint or a folder of
    stored weights such as the bundled one."""
    if start is not None and start.is_dir():
        model, _ = load_weights(start)
    else:
        model = from_minilm(load_file(str(minilm_path() / "model.safetensors")))
        resume(start, model, None)
    # a quarter faster to train on a CPU than the fused kernels, whose backward pass is slow there
    model.bart.set_attn_implementation("eager")
    return model


def optimiser_of(model: MiniModel, peak: float = 1.0) -> torch.optim.Optimizer:
    """AdamW with a gentler rate for the encoder, whose weights already know language; the word
    embeddings, which the encoder shares, count to it."""
    encoder = [p for n, p in model.named_parameters() if n.startswith(_ENCODER)]
    rest = [p for n, p in model.named_parameters() if not n.startswith(_ENCODER)]
    groups = [
        {"params": encoder, "peak": PEAK["encoder"] * peak},
        {"params": rest, "peak": PEAK["rest"] * peak},
    ]
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=0.01, fused=True)


_ENCODER = ("bart.encoder.", "bart.shared.")


def freeze(model: MiniModel, layers: int) -> None:
    """The word embeddings and the first `layers` layers of the encoder stay as they are: gradients
    stop above them, so that two of six cost a fifth less a step. Nothing for 0."""
    if layers:
        encoder = model.bart.encoder
        parts = (model.bart.shared, encoder.embed_positions, encoder.layernorm_embedding)
        for part in (*parts, *encoder.layers[:layers]):
            part.requires_grad_(False)


class Draws:
    """The stream of batches: which stage is on, and what is drawn in it."""

    def __init__(self, data: Path, seed: int, cap: int, stages: tuple[Stage, ...] = STAGES) -> None:
        self.rng = random.Random(seed)
        items, self.held = load(data)
        self.mixer = Mixer(items, self.rng)
        pool = paragraphs(data)
        self.copies = copy_items(pool, self.rng)
        self.closed = closed_items(data, pool, self.rng)
        self.encoder = Tensors()
        self.cap = cap
        self.stages = stages
        self._stage: Stage | None = None
        self._stream: Iterator[Batch] = iter(())

    def next(self, share: float) -> Batch:
        stage = next(s for s in self.stages if share <= s.until)
        if stage != self._stage:
            self._stage = stage
            self._stream = batches(self._draw, self.encoder, self.rng, self.cap, stage.choose)
        return next(self._stream)

    def _draw(self, write: bool) -> Item:
        stage = self._stage
        if stage.copies:
            return next(self.copies)
        if write and self.rng.random() < stage.closed:
            return next(self.closed)
        if self.rng.random() < stage.tricks:
            return self.mixer.trick(stage.several)
        while True:
            item = self.mixer.draw(stage.several, stage.refuse, stage.ask if write else 0.0)
            if write or item.task == "answer":
                return item


def train(
    data: Path,
    out: Path,
    run: Run,
    *,
    start: Path | None = None,
    cap: int = CAP_TOKENS,
    peak: float = 1.0,
    stages: tuple[Stage, ...] = STAGES,
    watched: int = 120,
    frozen: int = 0,
) -> Progress:
    """One run, from MiniLM, from the weights of `start`, or going on from OUT/checkpoint.pt; leaves
    the checkpoint and the int8 weights in OUT. `watched` held-out questions of each kind are asked
    from time to time; the first `frozen` encoder layers do not learn."""
    torch.manual_seed(run.seed)
    out.mkdir(parents=True, exist_ok=True)
    run = replace(run, checkpoint=out / "checkpoint.pt")
    model = start_model(start)
    freeze(model, frozen)
    model.to(run.device)
    draws = Draws(data, run.seed + (run.checkpoint.exists()), cap, stages)
    samples = {
        name: watched_items(draws.held, draws.mixer, watched, sources)
        for name, sources in WATCHED.items()
    }

    def step(share: float) -> Losses:
        batch = draws.next(share)
        batch = Batch(*(v.to(run.device) for v in vars(batch).values()))
        write, select = losses(model, batch)
        return Losses({"write": write, "select": select}, len(batch.inputs))

    progress = fit(
        model,
        optimiser_of(model, peak),
        step,
        run,
        watch=lambda: {
            name + measure: value
            for name, sample in samples.items()
            for measure, value in watch(model, draws.encoder, sample, run.device).items()
        },
        say=lambda line: print(line, flush=True),
    )
    facts = Facts(examples=progress.examples, seed=run.seed)
    export(model.cpu().eval(), out / "weights", calibrate(model, facts, data))
    return progress


def export(model: MiniModel, folder: Path, facts: Facts) -> None:
    """What the app loads: int8 weights, facts and the tokenizer."""
    save_weights(model, folder, facts)
    shutil.copy(minilm_path() / "tokenizer.json", folder / "tokenizer.json")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m ragdemo train mini", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="see its README for the files")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint and weights go here")
    parser.add_argument("--minutes", type=float, default=60, help="bounds the run (default 60)")
    parser.add_argument("--steps", type=int, help="bounds the run instead of the minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="begin from this checkpoint or weights folder")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cap", type=int, default=CAP_TOKENS, help="encoder tokens in a batch")
    parser.add_argument("--peak", type=float, default=1.0, help="factor on the learning rates")
    parser.add_argument("--freeze", type=int, default=0, help="encoder layers that do not learn")
    parser.add_argument(
        "--from-stage",
        choices=[s.name for s in STAGES],
        default=STAGES[0].name,
        help="leave the earlier stages out: for a model that can what they teach",
    )
    given = parser.parse_args(argv)
    run = Run(given.minutes, given.steps, given.seed, given.device)
    stages = STAGES[[s.name for s in STAGES].index(given.from_stage) :]
    train(
        given.data, given.out, run, start=given.start, cap=given.cap, peak=given.peak,
        stages=stages, frozen=given.freeze,
    )  # fmt: skip
