"""What every generator offers: turn a question and hits into a prompt, and stream a batch of them.

Knows nothing of models or tokenizers, and imports neither torch nor transformers.

A batch is several prompts decoded together: the grounded and the closed-book prompt of one
question, and those of other visitors. Rows are independent. Whoever stands beside a row, its text
and its seed's draws are the same, and cancelling it leaves the others running.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ragdemo.errors import Cancelled
from ragdemo.types import Answer, Decoding, Hit, Prompt


@dataclass(frozen=True, slots=True)
class Step:
    """News of one row: `text` is all of it so far, never a delta, and each extends the last.

    Only the last may take something back: a byte that turned out to belong to no character.
    """

    row: int  # index into the batch
    text: str
    answer: Answer | None = None  # on the row's last step; then `text == answer.text`


class Generator(Protocol):
    """One model. `prompt` may be called from any thread; `stream` by one thread at a time."""

    name: str  # as shown to visitors and written into `Answer.model`
    limit: int  # tokens the model can read and write in all
    fusions: tuple[str, ...]  # keys of `fusion.FUSIONS` it can do, its usual one first

    def prompt(
        self,
        question: str,
        hits: Sequence[Hit],
        *,
        decoding: Decoding,
        template: str | None = None,
        history: Sequence[tuple[str, str]] = (),
    ) -> Prompt:
        """The prompt for `question`; without hits, the closed-book baseline.

        `template` is a name in `prompts.TEMPLATES` or a visitor's own text with `{passages}`,
        `{question}` and perhaps `{history}`. `history` is earlier (question, answer) pairs, oldest
        first. Raises `LimitReached` when the question leaves no room, `RagdemoError` for a
        template that cannot be used.
        """
        ...

    def stream(
        self,
        prompts: Sequence[Prompt],
        decodings: Sequence[Decoding],
        cancelled: Sequence[threading.Event],
    ) -> Iterator[Step]:
        """Write all rows; ends when each has had a step with its answer.

        The three sequences have one entry a row. A set event ends its row within one model step
        with `finish == "cancelled"` and the text so far. An error that concerns one row is raised
        after the others have ended, so a row without an answer is one that failed.
        """
        ...

    def log_likelihood(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        cancelled: threading.Event | None = None,
    ) -> list[float]:
        """log p(text and then the end | prompt) of each row: natural, summed over tokens, finite.

        Rows with the same `Prompt` object share its reading. By one thread at a time, like
        `stream`. Raises `Cancelled` once the event is set, `LimitReached` for a text too long,
        `RagdemoError` where the model's probabilities are out of reach.
        """
        ...


def check_batch(*sequences: Sequence[object]) -> None:
    """Raise `ValueError` unless all have one entry a row."""
    sizes = [len(sequence) for sequence in sequences]
    if len(set(sizes)) > 1:
        raise ValueError(f"a batch needs one entry a row: must be equally long, got {sizes}")


def stop_if(cancelled: threading.Event | None) -> None:
    """Raise `Cancelled` once nobody waits for what is being scored."""
    if cancelled is not None and cancelled.is_set():
        raise Cancelled("Stopped before the answers were weighed.")


def run(
    generator: Generator, prompts: Sequence[Prompt], decodings: Sequence[Decoding]
) -> list[Answer]:
    """The answers of one batch, in the order of `prompts`, with nobody watching."""
    check_batch(prompts, decodings)
    events = [threading.Event() for _ in prompts]
    answers = {
        step.row: step.answer
        for step in generator.stream(prompts, decodings, events)
        if step.answer is not None
    }
    return [answers[row] for row in range(len(prompts))]
