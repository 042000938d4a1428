"""Decoder-only models: GPT-2, Llama, Qwen, SmolLM and whatever `AutoModelForCausalLM` knows.

Reads chat messages when the tokenizer has a chat template, one plain text otherwise. Knows nothing
of the hub: `hub.fetch` turns an id into the folder that is loaded here.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from ragdemo.generation import decoding as loop
from ragdemo.generation.base import Step
from ragdemo.generation.scoring import continuation, log_likelihood
from ragdemo.generation.tracing import TokenStep, written
from ragdemo.prompts import build
from ragdemo.types import Decoding, Hit, Prompt

# A base model goes on with the next question of its own making; its answer ended before that.
STOPS = ("\nQuestion:", "\n\n")

# Models that read 32,768 tokens would take minutes for it on a CPU; 20 passages fit into this.
LIMIT = 4096


class CausalGenerator:
    """A decoder-only model. Implements `base.Generator`.

    Its limit holds prompt and answer together, so `max_tokens` are reserved in every prompt.
    """

    fusions = ("together", "marginalise")

    def __init__(
        self, path: Path, *, name: str = "", limit: int = LIMIT, device: str = "cpu"
    ) -> None:
        """Load from a local folder; `limit` lowers the model's own. Raises `ModelUnavailable`."""
        self.name = name or path.name
        self._model, tokenizer = loop.load(AutoModelForCausalLM, path, self.name, device)
        self.limit = min(loop.window(self._model.config, tokenizer), limit)
        self._reader = loop.Vocabulary(self.name, tokenizer, self.limit)
        self._ends = loop.end_ids(self._model, tokenizer)
        self._stops = () if self._reader.chat else STOPS

    def prompt(
        self,
        question: str,
        hits: Sequence[Hit],
        *,
        decoding: Decoding,
        template: str | None = None,
        history: Sequence[tuple[str, str]] = (),
    ) -> Prompt:
        """See `base.Generator.prompt`."""
        return build(
            self._reader,
            question,
            hits,
            reserve=decoding.max_tokens,
            default="chat" if self._reader.chat else "plain",
            template=template,
            history=history,
        )

    def stream(
        self,
        prompts: Sequence[Prompt],
        decodings: Sequence[Decoding],
        cancelled: Sequence[threading.Event],
    ) -> Iterator[Step]:
        """See `base.Generator.stream`."""
        return loop.write(
            prompts,
            decodings,
            cancelled,
            reader=self._reader,
            room=lambda read: self.limit - read,
            ends=self._ends,
            stops=self._stops,
            forward=lambda ids: _Running(self._model, ids),
        )

    def trace(self, prompt: Prompt, decoding: Decoding) -> tuple[TokenStep, ...]:
        """See `tracing.Traceable`."""
        return written(
            prompt,
            decoding,
            reader=self._reader,
            room=lambda read: self.limit - read,
            ends=self._ends,
            stops=self._stops,
            forward=lambda ids: _Running(self._model, ids),
        )

    def log_likelihood(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        cancelled: threading.Event | None = None,
    ) -> list[float]:
        """See `base.Generator.log_likelihood`; the prompt's own tokens count for nothing."""
        return log_likelihood(
            prompts,
            texts,
            cancelled,
            reader=self._reader,
            tokens=lambda prompt, text: continuation(self._reader, prompt.text, text),
            room=lambda read: self.limit - read,
            ends=self._ends,
            forward=lambda ids: _Running(self._model, ids),
        )


class _Running:
    """One batch in the model, left-padded so that all rows write at the same place."""

    def __init__(self, model: PreTrainedModel, ids: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._cache = DynamicCache(config=model.config)
        longest = max(map(len, ids))
        device = model.device
        self._ids = torch.zeros(len(ids), longest, dtype=torch.long, device=device)
        self._mask = torch.zeros_like(self._ids)  # 1 for a token, 0 for padding
        for row, read in enumerate(ids):
            self._ids[row, longest - len(read) :] = torch.tensor(read, device=device)
            self._mask[row, longest - len(read) :] = 1
        accepted = inspect.signature(model.forward).parameters
        self._positioned = "position_ids" in accepted  # BLOOM and OPT work them out themselves
        # without it the prompt's logits are [rows, length, vocabulary]: 1.6 GB for 8 x 1,024 x 50k
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def start(self) -> torch.Tensor:
        """[rows, vocabulary]"""
        return self._forward(self._ids)

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """[rows] -> [rows, vocabulary]"""
        new = torch.tensor(tokens, device=self._mask.device)[:, None]  # [rows, 1]
        self._mask = torch.cat([self._mask, torch.ones_like(new)], dim=1)
        return self._forward(new)

    def follow(self, tokens: torch.Tensor) -> torch.Tensor:
        """[rows, length] -> [rows, length, vocabulary]. Padding stands at the end, where no token
        before it sees it."""
        new = tokens.to(self._mask.device)
        self._mask = torch.cat([self._mask, torch.ones_like(new)], dim=1)
        return self._logits(new)

    def keep(self, places: Sequence[int]) -> None:
        kept = torch.tensor(places, device=self._mask.device)
        self._mask = self._mask[kept]
        self._cache.batch_select_indices(kept)

    # here and not around the loop: the mode is the thread's, and would leak out at each yield
    @torch.inference_mode()
    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self._logits(ids, **self._last_only)[:, -1]

    @torch.inference_mode()
    def _logits(self, ids: torch.Tensor, **extra: object) -> torch.Tensor:
        if self._positioned:
            # padding counts for nothing: the first real token of every row stands at 0
            positions = (self._mask.cumsum(1) - 1).clamp(min=0)
            extra["position_ids"] = positions[:, -ids.shape[1] :]
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            cache=self._cache,
            use_cache=True,
            **extra,
        )
        return out.logits.float()
