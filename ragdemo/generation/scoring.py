"""How likely a given text is: log p(text and then the end | prompt), a batch at a time.

Teacher forcing: the prompt is read once, all tokens of the text follow in one pass, and every
token is scored by the logits before it. Knows nothing of architectures, like `decoding`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import torch

from ragdemo.errors import LimitReached
from ragdemo.generation.base import check_batch, stop_if
from ragdemo.generation.decoding import Forward, Vocabulary
from ragdemo.types import Prompt

# Logits held at once, rows x length x vocabulary: 256 MiB as float32.
CELLS = 2**26


def log_likelihood(
    prompts: Sequence[Prompt],
    texts: Sequence[str],
    cancelled: threading.Event | None,
    *,
    reader: Vocabulary,
    tokens: Callable[[Prompt, str], list[int]],
    room: Callable[[int], int],
    ends: frozenset[int],
    forward: Callable[[list[list[int]]], Forward],
) -> list[float]:
    """`base.Generator.log_likelihood` for a local model.

    `tokens` turns a text into the ids that would follow its prompt; `room` says how many may.
    Whichever of `ends` comes first ends an answer, so their probabilities are added.
    """
    check_batch(prompts, texts)
    read = {id(prompt): reader.encode(prompt.text) for prompt in prompts}
    wanted = [tokens(p, reader.clean(t)) for p, t in zip(prompts, texts, strict=True)]
    for prompt, ids in zip(prompts, wanted, strict=True):
        if len(ids) > room(len(read[id(prompt)])):
            raise LimitReached(
                f"An answer of {len(ids):,} tokens does not fit after its prompt: {reader.name}'s "
                f"limit is {reader.limit:,}. Lower the longest answer (max_tokens)."
            )
    scores: list[float] = []
    for part in slices([len(ids) + 1 for ids in wanted], reader.size):
        stop_if(cancelled)
        own = [id(prompt) for prompt in prompts[part]]
        different = list(dict.fromkeys(own))
        running = forward([read[key] for key in different])
        first = running.start()  # [different, vocabulary]
        places = [different.index(key) for key in own]
        stop_if(cancelled)
        scores += _scores(running, first, places, wanted[part], ends)
    return scores


def _scores(
    running: Forward,
    first: torch.Tensor,
    places: list[int],
    wanted: list[list[int]],
    ends: frozenset[int],
) -> list[float]:
    """One sum a row; `places` says which of the prompts read each row follows."""
    lengths = [len(ids) for ids in wanted]
    padded = torch.zeros(len(wanted), max(lengths), dtype=torch.long, device=first.device)
    for row, ids in enumerate(wanted):
        padded[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    logits = first[places][:, None]  # [rows, 1, vocabulary]
    if padded.shape[1]:
        running.keep(places)
        logits = torch.cat([logits, running.follow(padded)], 1)  # [rows, longest + 1, vocabulary]
    return [
        _score(logits[row, : length + 1], padded[row, :length], ends)
        for row, length in enumerate(lengths)
    ]


def _score(logits: torch.Tensor, ids: torch.Tensor, ends: frozenset[int]) -> float:
    """[length + 1, vocabulary], [length] -> the sum of log p over the ids and then an end."""
    logs = logits.log_softmax(-1)
    said = logs[: len(ids)].gather(1, ids[:, None]).sum()
    # a model without an end token can only be stopped, which it has no probability of
    ended = logs[len(ids), sorted(ends)].logsumexp(0) if ends else 0.0
    return float(said + ended)


def continuation(reader: Vocabulary, prompt: str, text: str) -> list[int]:
    """Ids of `text` as they stand after `prompt`: "Answer:" is followed by " 28", not by "28".

    A chat template ends where the answer begins, so nothing is put between.
    """
    gap = "" if not text or reader.chat or prompt[-1:].isspace() else " "
    before = reader.encode(prompt)
    whole = reader.encode(prompt + gap + text)
    # a tokenizer may join characters across the border; the text is then encoded by itself
    return whole[len(before) :] if whole[: len(before)] == before else reader.encode(gap + text)


def slices(lengths: Sequence[int], vocabulary: int) -> Iterator[slice]:
    """Runs of rows whose padded logits stay within `CELLS`; one row at least."""
    start = 0
    while start < len(lengths):
        end, longest = start + 1, lengths[start]
        while end < len(lengths):
            longest = max(longest, lengths[end])
            if (end + 1 - start) * longest * vocabulary > CELLS:
                break
            end += 1
        yield slice(start, end)
        start = end
