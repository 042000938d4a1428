"""One word piece at a time, for a batch of rows, with the source position each was copied from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from ragdemo.generation.mini.model import Encoded, MiniModel, Step, mixture
from ragdemo.generation.mini.source import CLS, PAD, SEP, TASKS


@dataclass
class Piece:
    """The next word piece of every row."""

    ids: Tensor  # [B]
    source: Tensor  # [B] position in the row's source it was copied from, -1 where it was written
    pointer: Tensor  # [B, N] attention over the source at this step


TINY = 1e-9  # the least probability of a word piece, about float32's rounding of a sum to 1
_NEVER = [PAD, CLS, *TASKS.values()]  # control tokens stand in the source, but are not text

Choose = Callable[[Tensor], Tensor]  # p [B, V] -> ids [B]


def greedy(probabilities: Tensor) -> Tensor:
    return probabilities.argmax(-1)


def opened(step: Step, encoded: Encoded) -> Step:
    """The step whose first word piece, in rows that answer from passages, opens a sentence.

    An answer is a sentence of the passages; left to itself a model this small sometimes enters one
    in the middle, or ends before it began.
    """
    pointer, gate = step.pointer.clone(), step.gate.clone()
    first = pointer[:, 0] * encoded.opens
    total = first.sum(-1, keepdim=True)
    answers = total > 0
    pointer[:, 0] = torch.where(answers, first / total.clamp(min=TINY), pointer[:, 0])
    gate[:, 0] = gate[:, 0] * ~answers.squeeze(-1)
    return replace(step, pointer=pointer, gate=gate)


@torch.inference_mode()
def pieces(
    model: MiniModel, encoded: Encoded, choose: Choose = greedy, allowed: Tensor | None = None
) -> Iterator[Piece]:
    """Endless: the caller stops asking when every row has written [SEP] or was cancelled.

    `allowed` [V] is True where a word piece may be written rather than copied.
    """
    before = torch.zeros_like(encoded.tokens[:, :1])
    last = torch.full_like(before, CLS)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    first = True
    while True:
        step = model.decode(last, encoded, cache, before)
        if first:
            step, first = opened(step, encoded), False
        probabilities = mixture(step, encoded, allowed)[:, -1]
        probabilities[:, _NEVER] = 0.0
        ids = choose(probabilities)
        pointer = step.pointer[:, -1]
        same = pointer * (encoded.tokens == ids.unsqueeze(-1)) * encoded.valid
        copied = (1 - step.gate[:, -1]) * same.sum(-1)
        written = probabilities.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - copied
        source = torch.where(copied > written, same.argmax(-1), -1)
        yield Piece(ids, source, pointer)
        before, last = last, ids.unsqueeze(-1)


@torch.inference_mode()
def text_log_likelihoods(
    model: MiniModel, encoded: Encoded, texts: Sequence[Sequence[int]], allowed: Tensor
) -> list[float]:
    """Sum over each row's word pieces and [SEP] of log p, as `pieces` would give them.

    A number that stands in no passage has p = 0 there; `TINY` keeps its log finite.
    """
    lengths = [len(ids) for ids in texts]
    inputs = torch.full((len(texts), max(lengths) + 1), CLS)  # [B, T]
    labels = torch.full_like(inputs, SEP)
    for row, ids in enumerate(texts):
        labels[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    inputs[:, 1:] = labels[:, :-1]
    p = mixture(opened(model.decode(inputs, encoded), encoded), encoded, allowed)  # [B, T, V]
    logs = p.gather(-1, labels.unsqueeze(-1)).squeeze(-1).clamp(min=TINY).log()  # [B, T]
    return [float(logs[row, : length + 1].sum()) for row, length in enumerate(lengths)]


def greedy_ids(model: MiniModel, encoded: Encoded, most: int = 64) -> list[list[int]]:
    """Whole greedy answers as word pieces, without [SEP]: for measuring during training."""
    rows: list[list[int]] = [[] for _ in range(encoded.tokens.shape[0])]
    open_rows = set(range(len(rows)))
    for number, piece in enumerate(pieces(model, encoded)):
        for row in list(open_rows):
            token = int(piece.ids[row])
            if token == SEP:
                open_rows.discard(row)
            else:
                rows[row].append(token)
        if not open_rows or number + 1 >= most:
            return rows
    return rows
