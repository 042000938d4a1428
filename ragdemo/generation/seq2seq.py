"""Encoder-decoder models: T5, Flan-T5, BART and whatever `AutoModelForSeq2SeqLM` knows.

The encoder reads the prompt once; the decoder writes on a strip of its own, so nothing of the
prompt's limit is reserved for the answer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from ragdemo.generation import decoding as loop
from ragdemo.generation.base import Step
from ragdemo.generation.scoring import log_likelihood
from ragdemo.generation.tracing import TokenStep, written
from ragdemo.prompts import build
from ragdemo.types import Decoding, Hit, Prompt


class Seq2SeqGenerator:
    """An encoder-decoder model. Implements `base.Generator`.

    `limit` is what the encoder reads; the decoder writes as many again.
    """

    fusions = ("together", "marginalise")

    def __init__(
        self, path: Path, *, name: str = "", limit: int | None = None, device: str = "cpu"
    ) -> None:
        """Load from a local folder; `limit` lowers the model's own. Raises `ModelUnavailable`."""
        self.name = name or path.name
        self._model, tokenizer = loop.load(AutoModelForSeq2SeqLM, path, self.name, device)
        own = loop.window(self._model.config, tokenizer)
        self.limit = min(own, limit) if limit else own
        self._first = _first_tokens(self._model)
        self._writes = own - len(self._first)
        self._reader = loop.Vocabulary(self.name, tokenizer, self.limit)
        self._ends = loop.end_ids(self._model, tokenizer)

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
            reserve=0,
            default="seq2seq",
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
            room=lambda read: self._writes if read <= self.limit else 0,
            ends=self._ends,
            stops=(),
            forward=lambda ids: _Running(self._model, ids, self._first),
        )

    def trace(self, prompt: Prompt, decoding: Decoding) -> tuple[TokenStep, ...]:
        """See `tracing.Traceable`."""
        return written(
            prompt,
            decoding,
            reader=self._reader,
            room=lambda read: self._writes if read <= self.limit else 0,
            ends=self._ends,
            stops=(),
            forward=lambda ids: _Running(self._model, ids, self._first),
        )

    def log_likelihood(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        cancelled: threading.Event | None = None,
    ) -> list[float]:
        """See `base.Generator.log_likelihood`; what the decoder starts from counts for nothing."""
        return log_likelihood(
            prompts,
            texts,
            cancelled,
            reader=self._reader,
            tokens=lambda _, text: self._reader.encode(text),
            room=lambda read: self._writes if read <= self.limit else 0,
            ends=self._ends,
            forward=lambda ids: _Running(self._model, ids, self._first),
        )


def _first_tokens(model: PreTrainedModel) -> list[int]:
    """What the decoder starts from: T5 its padding token, BART "</s>" and then "<s>"."""
    config = model.generation_config
    start = config.decoder_start_token_id
    if start is None:
        start = config.bos_token_id if config.bos_token_id is not None else 0
    forced = config.forced_bos_token_id
    return [start] if forced is None else [start, forced]


class _Running:
    """One batch: the encoder's states, and the decoder's cache."""

    def __init__(
        self, model: PreTrainedModel, ids: Sequence[Sequence[int]], first: Sequence[int]
    ) -> None:
        self._model = model
        self._cache = None  # the model makes it, for its own and for the encoder's keys
        device = model.device
        longest = max(map(len, ids))
        self._ids = torch.zeros(len(ids), longest, dtype=torch.long, device=device)
        self._mask = torch.zeros_like(self._ids)  # 1 for a token, 0 for padding
        for row, read in enumerate(ids):
            self._ids[row, : len(read)] = torch.tensor(read, device=device)
            self._mask[row, : len(read)] = 1
        self._first = torch.tensor(first, device=device).expand(len(ids), -1)  # [rows, 1 or 2]

    @torch.inference_mode()
    def start(self) -> torch.Tensor:
        """[rows, vocabulary]"""
        encoder = self._model.get_encoder()
        self._states = encoder(
            input_ids=self._ids, attention_mask=self._mask
        ).last_hidden_state  # [rows, length, width]
        return self._forward(self._first)

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """[rows] -> [rows, vocabulary]"""
        return self._forward(torch.tensor(tokens, device=self._mask.device)[:, None])

    def follow(self, tokens: torch.Tensor) -> torch.Tensor:
        """[rows, length] -> [rows, length, vocabulary]; the decoder never looks ahead, so padding
        at the end changes nothing before it."""
        return self._logits(tokens.to(self._mask.device))

    def keep(self, places: Sequence[int]) -> None:
        kept = torch.tensor(places, device=self._mask.device)
        self._mask = self._mask[kept]
        self._states = self._states[kept]
        self._cache.batch_select_indices(kept)

    # here and not around the loop: the mode is the thread's, and would leak out at each yield
    @torch.inference_mode()
    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self._logits(ids)[:, -1]

    @torch.inference_mode()
    def _logits(self, ids: torch.Tensor) -> torch.Tensor:
        out = self._model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self._states),
            attention_mask=self._mask,
            decoder_input_ids=ids,
            cache=self._cache,
            use_cache=True,
        )
        self._cache = out.cache
        return out.logits.float()
