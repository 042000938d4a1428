"""What a generator weighed before each token: the answer is written once more and watched.

A generator that can be watched offers `Traceable.trace`; an endpoint elsewhere can't. What
temperature and top-p leave of a step is exact although only its likeliest tokens are kept: the sum
that temperature divides by is kept too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ragdemo.errors import LimitReached
from ragdemo.types import Decoding, Prompt

if TYPE_CHECKING:
    import torch

    from ragdemo.generation.decoding import Forward, Vocabulary

KEPT = 40  # likeliest tokens of a step; beyond them a bar could not be seen
TEMPERATURES = tuple(tenth / 10 for tenth in range(1, 21))


@dataclass(frozen=True, slots=True)
class Choice:
    """A token that could have come next."""

    token: str  # "␣" stands for a space in front
    id: int
    p: float  # at temperature 1


@dataclass(frozen=True, slots=True)
class TokenStep:
    """One step of writing."""

    chosen: Choice
    likely: tuple[Choice, ...]  # likeliest first, at most `KEPT`; always with the first of all
    sums: tuple[float, ...]  # sum over the vocabulary of p^(1/T), for each of `TEMPERATURES`
    passage: int | None = None  # index into Prompt.used that it was copied from; bundled model


@dataclass(frozen=True, slots=True)
class Left:
    """A token under a temperature and a top-p."""

    choice: Choice
    p: float  # after temperature
    drawn: float  # what it is drawn with: 0 outside the nucleus


class Traceable(Protocol):
    """A generator that can be watched while it writes."""

    def trace(self, prompt: Prompt, decoding: Decoding) -> tuple[TokenStep, ...]:
        """The steps of the answer to `prompt`, its end included; none where it is refused before
        the first word. By one thread at a time, like `Generator.stream`."""
        ...


def left(step: TokenStep, temperature: float, top_p: float) -> list[Left]:
    """The likeliest tokens as temperature and then top-p leave them.

    p_T = p^(1/T) / sum of p^(1/T): the softmax of logits / T. The nucleus is the smallest set of
    likeliest tokens that holds `top_p` (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751);
    inside it p is scaled to sum to 1. Where more than `KEPT` tokens are in it, the sum is `top_p`.
    """
    total = step.sums[TEMPERATURES.index(temperature)]
    shaped = [choice.p ** (1 / temperature) / total for choice in step.likely]
    inside, before = [], 0.0
    for p in shaped:
        inside.append(before < top_p)
        before += p
    held = sum(p for p, kept in zip(shaped, inside, strict=True) if kept)
    held = max(held, top_p) if all(inside) else held
    return [
        Left(choice, p, p / held if kept else 0.0)
        for choice, p, kept in zip(step.likely, shaped, inside, strict=True)
    ]


def step_of(
    probabilities: torch.Tensor,
    chosen: int,
    token: Callable[[int], str],
    passage: int | None = None,
) -> TokenStep:
    """[vocabulary] probabilities that sum to 1, and the id that was picked."""
    p = probabilities.double()
    logs = p.clamp(min=1e-300).log()
    best, ids = p.topk(min(KEPT, len(p)))
    return TokenStep(
        Choice(token(chosen), chosen, float(p[chosen])),
        tuple(Choice(token(int(i)), int(i), float(v)) for v, i in zip(best, ids, strict=True)),
        tuple(float((logs / t).exp().sum()) for t in TEMPERATURES),
        passage,
    )


def written(
    prompt: Prompt,
    decoding: Decoding,
    *,
    reader: Vocabulary,
    room: Callable[[int], int],
    ends: frozenset[int],
    stops: tuple[str, ...],
    forward: Callable[[list[list[int]]], Forward],
) -> tuple[TokenStep, ...]:
    """`Traceable.trace` for a local model; arguments as for `decoding.write`."""
    from ragdemo.generation.decoding import Row
    from ragdemo.generation.sampling import pick

    read = reader.encode(prompt.text)
    most = min(decoding.max_tokens, room(len(read)))
    if most < 1:
        raise LimitReached(
            f"A prompt of {len(read):,} tokens leaves no room for an answer: {reader.name}'s limit "
            f"is {reader.limit:,}."
        )
    row = Row(0, prompt, decoding, reader, most=most, ends=ends, stops=stops)
    running = forward([read])
    logits = running.start()
    steps: list[TokenStep] = []
    while True:
        token = pick(logits[0], decoding, row.generator)
        steps.append(step_of(logits[0].softmax(-1), token, reader.token))
        if row.push(token).answer:
            return tuple(steps)
        logits = running.step([token])
