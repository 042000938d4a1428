"""Training items -> the tensors of a batch: sources, targets, and where the answer stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ragdemo.embedding import minilm_path
from ragdemo.generation.mini import source as src
from ragdemo.generation.mini.model import NULL, SourceBatch
from ragdemo.training.mini_data import Item

TARGET_TOKENS = 80


@dataclass
class Batch:
    source: SourceBatch
    inputs: torch.Tensor  # [B, T] [CLS] + target
    labels: torch.Tensor  # [B, T] target + [SEP], 0 where nothing is to be written
    spots: torch.Tensor  # [B, N] bool: tokens that hold the answer, or [CLS] for "not here"
    selects: torch.Tensor  # [B] bool: rows with a selection to learn
    about: torch.Tensor  # [B] the sentence that a question is to be written about, or NULL


def packed(batch: Batch) -> tuple[dict, dict]:
    """The batch as arrays, for another process: torch would hand tensors over in shared memory, of
    which a container has little."""
    source, rest = dict(vars(batch.source)), dict(vars(batch))
    del rest["source"]
    return tuple(
        {name: v.numpy() if isinstance(v, torch.Tensor) else v for name, v in part.items()}
        for part in (source, rest)
    )


def unpacked(source: dict, rest: dict) -> Batch:
    """The batch that was `packed`."""
    whole = [
        {n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in part.items()}
        for part in (source, rest)
    ]
    return Batch(SourceBatch(**whole[0]), **whole[1])


class Tensors:
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

    def batch(self, items: list[Item], write: bool = True) -> Batch:
        """The items' tensors; without `write` there is nothing to write, only to choose."""
        rows, spots, targets, about = [], [], [], []
        for item in items:
            laid, bodies = self.rows(item)
            rows.append(laid)
            spots.append(self._spots(item, laid, bodies))
            about.append(_sentence(item, bodies))
            said = item.target if write else ""
            target = src.tokenize(self.tokenizer, [said])[0].ids[: TARGET_TOKENS - 1]
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
            torch.tensor(about),
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


def _sentence(item: Item, bodies: list[src.Tokens]) -> int:
    """Number of the sentence that a question to be written is about."""
    if item.task != "ask" or not item.gold:
        return NULL
    inside = bodies[0].end > item.gold[0][1].start
    return int(bodies[0].sentence[inside.argmax()]) + 1 if inside.any() else NULL
