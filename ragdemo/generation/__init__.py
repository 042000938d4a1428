"""Generators: interchangeable through `base.Generator`, listed in `GENERATORS`.

Importing this loads neither torch nor transformers; each entry imports its own when called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ragdemo.errors import RagdemoError
from ragdemo.generation.base import Generator, Step, run

__all__ = ["GENERATORS", "Generator", "Step", "Variant", "create", "run"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to answer, for the picker."""

    about: str  # one phrase
    make: Callable[..., Generator]


def _mini(**options: object) -> Generator:
    from ragdemo.generation.mini import MiniGenerator

    return MiniGenerator(**options)


def _causal(model: str, **options: object) -> Generator:
    from ragdemo.generation.hub import fetch

    path = fetch(model)
    from ragdemo.generation.causal import CausalGenerator

    return CausalGenerator(path, name=model, **options)


def _seq2seq(model: str, **options: object) -> Generator:
    from ragdemo.generation.hub import fetch

    path = fetch(model)
    from ragdemo.generation.seq2seq import Seq2SeqGenerator

    return Seq2SeqGenerator(path, name=model, **options)


def _model(model: str, **options: object) -> Generator:
    from ragdemo.generation.hub import describe

    return create(describe(model).kind, model=model, **options)


def _openai(**options: object) -> Generator:
    from ragdemo.generation.openai import OpenAIGenerator

    return OpenAIGenerator(**options)


GENERATORS: Mapping[str, Variant] = {
    "mini": Variant("the small model that comes with the app; works offline", _mini),
    "causal": Variant("continues a text: GPT-2, Llama, Qwen, SmolLM", _causal),
    "seq2seq": Variant("reads, then writes: T5, Flan-T5, BART", _seq2seq),
    "model": Variant("either of these two, by the model's own description", _model),
    "openai": Variant("any OpenAI-compatible endpoint: OpenAI, vLLM, Ollama, llama.cpp", _openai),
}


def create(kind: str, **options: object) -> Generator:
    """The generator `kind`; options go to its constructor, `model=` being an id or a local path.

    Raises `RagdemoError` for an unknown kind, `ModelUnavailable` when it cannot be had.
    """
    if kind not in GENERATORS:
        raise RagdemoError(f"Unknown generator '{kind}': choose from {', '.join(GENERATORS)}.")
    return GENERATORS[kind].make(**options)
