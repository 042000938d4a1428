"""log p(answer | prompt) with gradients, of the generators that can be trained.

The same numbers as each generator's own `log_likelihood` (a test holds them together), computed so
that a loss can be made of them. The generator is private to a training: nobody else reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ragdemo.errors import RagdemoError
from ragdemo.generation.base import Generator
from ragdemo.generation.scoring import continuation
from ragdemo.types import Decoding, Prompt

TINY = 1e-9  # the least probability of a word piece of the bundled model


def answer_log_likelihoods(
    generator: Generator, prompts: Sequence[Prompt], texts: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """[rows] the sum of log p over each text's tokens and the end, and [rows] how many they are.

    Only the answer counts: what the prompt says is given. Raises RagdemoError for a generator whose
    network is out of reach.
    """
    kind = type(generator).__name__
    if kind not in _KINDS:
        raise RagdemoError(
            f"{generator.name} can't be trained here: only the bundled generator and Hugging Face "
            "models can."
        )
    return _KINDS[kind](generator, prompts, texts)


def network(generator: Generator) -> torch.nn.Module:
    """What is trained of a private generator."""
    if type(generator).__name__ not in _KINDS:
        raise RagdemoError(f"{generator.name} runs elsewhere and can't be trained here.")
    if hasattr(generator._model, "quick_words"):
        generator._model.quick_words = None  # made for weights that stay
    return generator._model


def _mini(generator, prompts: Sequence[Prompt], texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    from ragdemo.generation.mini import source as src
    from ragdemo.generation.mini.again import not_here
    from ragdemo.generation.mini.decode import opened
    from ragdemo.generation.mini.model import mixture
    from ragdemo.generation.mini.row import Row, likeliest

    rows = [Row(generator, prompt, Decoding()) for prompt in prompts]
    for row in rows:
        row.read_in()
    model = generator._model
    encoded = generator._encode(rows)
    null = not_here(generator, rows, encoded)
    encoded = model.focused(encoded, likeliest(encoded))
    wanted = [tokens.ids.tolist() for tokens in generator._tokens(list(texts))]
    width = max(map(len, wanted)) + 1
    inputs = torch.full((len(rows), width), src.CLS)
    labels = torch.full((len(rows), width), src.SEP)
    kept = torch.zeros(len(rows), width, dtype=torch.bool)
    for n, ids in enumerate(wanted):
        labels[n, : len(ids)] = torch.tensor(ids, dtype=torch.long)
        kept[n, : len(ids) + 1] = True
    inputs[:, 1:] = labels[:, :-1]
    step = opened(model.decode(inputs, encoded), encoded)
    p = mixture(step, encoded, generator._writable(prompts))  # [rows, width, vocabulary]
    logs = p.gather(-1, labels.unsqueeze(-1)).squeeze(-1).clamp(min=TINY).log()
    sums = (logs * kept).sum(1)
    grounded = torch.tensor([bool(prompt.used) for prompt in prompts])
    # before its first word the model decides whether the passages hold an answer at all
    held = torch.log((1 - null).clamp(min=TINY))
    return torch.where(grounded, sums + held, sums), kept.sum(1)


def _seq2seq(generator, prompts: Sequence[Prompt], texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    reader, first = generator._reader, generator._first
    read, mask = _padded([reader.encode(prompt.text) for prompt in prompts])
    ends = sorted(generator._ends)
    wanted = [[*reader.encode(reader.clean(text)), *ends[:1]] for text in texts]
    inputs, _ = _padded([[*first, *ids[:-1]] for ids in wanted])
    labels, kept = _padded(wanted)
    out = generator._model(
        input_ids=read, attention_mask=mask, decoder_input_ids=inputs, use_cache=False
    )
    return _summed(out.logits[:, len(first) - 1 :], labels, kept)


def _causal(generator, prompts: Sequence[Prompt], texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    reader = generator._reader
    ends = sorted(generator._ends)
    before = [reader.encode(prompt.text) for prompt in prompts]
    wanted = [
        [*continuation(reader, prompt.text, reader.clean(text)), *ends[:1]]
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    whole, mask = _padded([[*b, *w] for b, w in zip(before, wanted, strict=True)])
    logits = generator._model(input_ids=whole, attention_mask=mask, use_cache=False).logits
    # the token at place i is told by the logits at i - 1; the prompt's own tokens do not count
    kept = torch.zeros_like(mask)
    for row, (b, w) in enumerate(zip(before, wanted, strict=True)):
        kept[row, len(b) : len(b) + len(w)] = 1
    return _summed(logits[:, :-1], whole[:, 1:], kept[:, 1:])


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """[rows, longest] ids, zeros behind them, and 1 where there is one."""
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for n, row in enumerate(rows):
        ids[n, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[n, : len(row)] = 1
    return ids, mask


def _summed(logits: Tensor, labels: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    logs = logits.float().log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return (logs * kept).sum(1), kept.sum(1)


_KINDS = {"MiniGenerator": _mini, "Seq2SeqGenerator": _seq2seq, "CausalGenerator": _causal}
