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
from dataclasses import replace
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
from ragdemo.training.mini_data import TRICKY, Item, Mixer
from ragdemo.training.mini_draws import CAP_TOKENS, STAGES, Draws, Stage, Workers
from ragdemo.training.mini_tensors import Batch, Tensors

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


def start_model(start: Path | None = None, device: str = "cpu") -> MiniModel:
    """The network to train: MiniLM's weights, or those of `start`, a checkpoint or a folder of
    stored weights such as the bundled one."""
    if start is not None and start.is_dir():
        model, _ = load_weights(start)
    else:
        model = from_minilm(load_file(str(minilm_path() / "model.safetensors")))
        resume(start, model, None)
    # a quarter faster to train on a CPU than the fused kernels, whose backward pass is slow there
    model.bart.set_attn_implementation("eager" if device == "cpu" else "sdpa")
    return model.to(device)


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


def drop(model: MiniModel, share: float) -> None:
    """Dropout of `share` wherever MiniLM had it when it was trained. For a run that sees its rows
    several times; one that sees them once has nothing to learn by heart."""
    for module in model.bart.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = share


def freeze(model: MiniModel, layers: int | None) -> None:
    """The word embeddings and the first `layers` layers of the encoder stay as they are: gradients
    stop above them, so that two of six cost a fifth less a step. For 0 the embeddings alone, for
    None nothing."""
    if layers is not None:
        encoder = model.bart.encoder
        parts = (model.bart.shared, encoder.embed_positions, encoder.layernorm_embedding)
        for part in (*parts, *encoder.layers[:layers]):
            part.requires_grad_(False)


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
    frozen: int | None = None,
    dropped: float = 0.0,
    workers: int = 0,
) -> Progress:
    """One run, from MiniLM, from the weights of `start`, or going on from OUT/checkpoint.pt; leaves
    the checkpoint and the int8 weights in OUT. `watched` held-out questions of each kind are asked
    from time to time; the embeddings and the first `frozen` encoder layers do not learn, for None
    all do; `dropped` is the dropout; `workers` processes draw the rows, or this one."""
    torch.manual_seed(run.seed)
    out.mkdir(parents=True, exist_ok=True)
    run = replace(run, checkpoint=out / "checkpoint.pt")
    model = start_model(start, run.device)
    freeze(model, frozen)
    drop(model, dropped)
    seed = run.seed + run.checkpoint.exists()
    draws = Draws(data, seed, cap, stages)
    samples = {
        name: watched_items(draws.held, draws.mixer, watched, sources)
        for name, sources in WATCHED.items()
    }

    stream = Workers(draws, seed, workers) if workers else draws

    def step(share: float) -> Losses:
        batch = stream.next(share)
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
    if workers:
        stream.close()
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
    parser.add_argument(
        "--freeze", type=int, help="encoder layers that do not learn; 0: the embeddings alone"
    )
    parser.add_argument("--dropout", type=float, default=0.0, help="for rows seen several times")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw rows (GPU)")
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
        stages=stages, frozen=given.freeze, dropped=given.dropout, workers=given.workers,
    )  # fmt: skip
