"""Word pieces one after the other, for a batch of rows, with the place each was copied from.

An answer is mostly a sentence of its source, letter by letter. So the decoder reads a stretch of
source behind the last word at once, as if it had been written, and as many of its words count as it
would have written itself: the same answer, in a few passes through the network instead of one for
each word piece (inference with reference, Yang et al. 2023, https://arxiv.org/abs/2304.04487).
"""

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
AHEAD = 32  # word pieces guessed in one pass, of all rows together
AT_FIRST = 8  # of a row, so that its first word does not wait for so many
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


class _Guess:
    """What each row would write next if it went on copying where it is."""

    def __init__(self, encoded: Encoded) -> None:
        self._tokens = encoded.tokens.tolist()
        self._continues = encoded.continues.tolist()
        # an answer begins where its sentence does
        self._next = [opens.index(True) if any(opens) else None for opens in encoded.opens.tolist()]
        self._opening = [True] * len(self._next)
        self._trust = [AT_FIRST] * len(self._next)  # word pieces to guess at most

    def ahead(self, row: int, most: int) -> list[int]:
        """Up to `most` word pieces: the rest of the sentence and [SEP]; none without a lead."""
        at = self._next[row]
        if at is None:
            return []
        guessed = []
        while len(guessed) < min(most, self._trust[row]):
            begins = self._opening[row] and not guessed
            if at >= len(self._tokens[row]) or not (begins or self._continues[row][at]):
                return [*guessed, SEP]
            guessed.append(self._tokens[row][at])
            at += 1
        return guessed

    def note(self, row: int, token: int, source: int) -> None:
        """`token` was written, copied from `source` or, at -1, from nowhere."""
        at, self._opening[row] = self._next[row], False
        if at is not None and at < len(self._tokens[row]) and self._tokens[row][at] == token:
            self._trust[row] = min(AHEAD, 2 * self._trust[row])
        else:
            at, self._trust[row] = (source, 2) if source >= 0 else (None, 0)
        self._next[row] = None if at is None else at + 1


@torch.inference_mode()
def pieces(
    model: MiniModel,
    encoded: Encoded,
    choose: Choose = greedy,
    allowed: Tensor | None = None,
    ahead: int = AHEAD,
) -> Iterator[Piece]:
    """Endless: the caller stops asking when every row has written [SEP] or was cancelled.

    `allowed` [V] is True where a word piece may be written rather than copied. `choose` is asked
    once for every piece, in order. `ahead` pieces of all rows together are guessed; none for 0.
    """
    before = torch.zeros_like(encoded.tokens[:, :1])
    last = torch.full_like(before, CLS)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    guess = _Guess(encoded)
    ended = [False] * len(last)
    first, room = True, model.bart.config.max_position_embeddings
    while True:
        most = min(ahead // len(last), room - 1)
        guesses = [[] if over else guess.ahead(row, most) for row, over in enumerate(ended)]
        # rows go on together, so the shortest guess bounds them all
        width = min((len(g) for g, over in zip(guesses, ended, strict=True) if not over), default=0)
        guessed = [(g + [PAD] * width)[:width] for g in guesses]
        given = torch.cat([last, torch.tensor(guessed, dtype=last.dtype).view(len(last), width)], 1)
        step = model.decode(given, encoded, cache, before)
        if first:
            step, first = opened(step, encoded), False
        probabilities = mixture(step, encoded, allowed)
        probabilities[:, :, _NEVER] = 0.0
        for at in range(width + 1):
            ids = choose(probabilities[:, at])
            pointer = step.pointer[:, at]
            same = pointer * (encoded.tokens == ids.unsqueeze(-1)) * encoded.valid
            copied = (1 - step.gate[:, at]) * same.sum(-1)
            written = probabilities[:, at].gather(-1, ids.unsqueeze(-1)).squeeze(-1) - copied
            source = torch.where(copied > written, same.argmax(-1), -1)
            yield Piece(ids, source, pointer)
            before, last = last, ids.unsqueeze(-1)
            right = True
            for row, (token, place) in enumerate(zip(ids.tolist(), source.tolist(), strict=True)):
                guess.note(row, token, place)
                ended[row] |= token == SEP
                right &= ended[row] or (at < width and token == guessed[row][at])
            if not right:
                break
        room -= at + 1
        cache.self_attention_cache.crop(at - width)  # what was guessed wrong goes


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
