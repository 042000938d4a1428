"""The network of ragdemo-mini: an encoder-decoder that finds a sentence and copies from it.

Three parts on top of a small BART (Lewis et al. 2020, https://arxiv.org/abs/1910.13461):
- fusion-in-decoder (Izacard and Grave 2021, https://arxiv.org/abs/2007.01282): every passage is
  encoded with the question on its own, the decoder attends over all of them;
- a sentence selector: one logit a token, pooled over sentences; the [CLS] of each passage stands
  for "the answer is not here", as in BERT's SQuAD 2.0 model (Devlin et al. 2019,
  https://arxiv.org/abs/1810.04805);
- a pointer head (See et al. 2017, https://arxiv.org/abs/1704.04368):
  p = g * vocabulary + (1 - g) * attention over the source. Its attention is told which source
  token follows the words just written, so that copying goes on where it stopped (the pattern that
  Olsson et al. 2022, https://arxiv.org/abs/2209.11895, call an induction head).

Knows nothing of text: `source.py` turns questions and passages into a `SourceBatch`.
Shapes: B rows, P passages in the whole batch, L tokens a passage, N source tokens a row,
S sentences a row, T target tokens, D = 384 wide, V = 30,522 word pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BartConfig, BartModel

if TYPE_CHECKING:
    from ragdemo.generation.mini.words import Words

SEP = 102  # BERT's separator, which also ends an answer
NULL = 0  # sentence number of the [CLS] tokens: "not here"
UNLIKELY = -12.0  # the least log prior of a sentence: never quite impossible
AROUND = -1.0  # of the sentences around the one that a question is about
OUTSIDE = -1  # tokens that belong to no sentence: task, question, title, separators


@dataclass
class SourceBatch:
    """Passages ready to encode, and where each of their tokens belongs."""

    input_ids: Tensor  # [P, L] word pieces, zero-padded
    attention_mask: Tensor  # [P, L] 1 where there is a token
    gather: Tensor  # [B, N] index into the flattened [P * L] tokens of the row's passages
    valid: Tensor  # [B, N] bool; False is padding of the row
    tokens: Tensor  # [B, N] the word pieces at `gather`
    sentence: Tensor  # [B, N] sentence number in the row from 1; NULL or OUTSIDE
    behind: Tensor  # [B, N] log prior of the token's sentence below the row's best; 0 or less
    opens: Tensor  # [B, N] bool: an answer may begin here; False throughout for the other tasks
    sentences: int  # S: the largest number of sentences of a row, NULL included

    def to(self, device: torch.device | str) -> SourceBatch:
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()}
        return SourceBatch(**moved)


@dataclass
class Encoded:
    """What the decoder sees of a `SourceBatch`."""

    states: Tensor  # [B, N, D] with the selected sentences marked
    keys: Tensor  # [B, N, D] the pointer's view of the states
    prior: Tensor  # [B, N] log p(the token's sentence is the one), 0 outside sentences
    selection: Tensor  # [B, S] log p(sentence); column NULL is "not here"
    spot: Tensor  # [B, N] log p(the answer stands at this token); sums to 1 with the [CLS] tokens
    valid: Tensor  # [B, N]
    tokens: Tensor  # [B, N]
    sentence: Tensor  # [B, N] as in `SourceBatch`
    continues: Tensor  # [B, N] bool: the token before it stands in the same sentence
    opens: Tensor  # [B, N] bool: an answer may begin here

    def rows(self, numbers: list[int]) -> Encoded:
        """These rows, some of them several times or not at all, without padding that none needs: a
        question asked beside five passages would carry theirs through every layer."""
        width = int(self.valid[numbers].sum(1).max())
        kept = {name: value[numbers] for name, value in vars(self).items()}
        return Encoded(**{n: v if n == "selection" else v[:, :width] for n, v in kept.items()})


@dataclass
class Step:
    """The distribution over the next word piece, taken apart."""

    gate: Tensor  # [B, T] g, the share of the vocabulary
    hidden: Tensor  # [B, T, D]
    words: Callable[[Tensor], Tensor]  # hidden states [..., D] -> logits [..., V]
    pointer: Tensor  # [B, T, N] attention over the source; sums to 1


def config(decoder_layers: int = 4, encoder_layers: int = 6) -> BartConfig:
    """MiniLM's shape as a BART configuration."""
    return BartConfig(
        vocab_size=30522,
        d_model=384,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=12,
        decoder_attention_heads=12,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
        max_position_embeddings=512,
        activation_function="gelu",
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        pad_token_id=0,
        bos_token_id=101,
        eos_token_id=102,
        decoder_start_token_id=101,
        forced_eos_token_id=None,
    )


class MiniModel(nn.Module):
    """Encoder, selector, decoder and pointer; see the module's text."""

    def __init__(self, bart: BartConfig) -> None:
        super().__init__()
        self.bart = BartModel(bart)
        width = bart.d_model
        self.select = nn.Linear(width, 1)
        self.mark = nn.Parameter(torch.zeros(width))  # added to tokens of the chosen sentence
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.prior_weight = nn.Parameter(torch.ones(()))
        self.follow = nn.Parameter(torch.tensor([1.0, 3.0]))  # after one, after two equal words
        self.gate = nn.Linear(2 * width, 1)
        for projection in (self.query, self.key):
            nn.init.eye_(projection.weight)
            nn.init.zeros_(projection.bias)
        nn.init.normal_(self.select.weight, std=0.02)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, -1.0)  # begin by copying
        self.quick_words: Words | None = None  # of weights that are trained no more

    def encode(self, source: SourceBatch) -> Encoded:
        states = self._read(source)  # [B, N, D]
        spot, selection = self._select(states, source)  # [B, N], [B, S]
        # log p of each token's own sentence; question and title tokens stay open to copying
        inside = source.sentence > NULL
        own = selection.gather(1, source.sentence.clamp(min=0))  # [B, N]
        states = states + (own.exp() * inside).unsqueeze(-1).to(states.dtype) * self.mark
        # "not here" must not make every word of the passages unlikely: compare sentences only
        among = selection - torch.logsumexp(selection[:, 1:], 1, keepdim=True)
        prior = among.gather(1, source.sentence.clamp(min=0)).clamp(min=UNLIKELY)
        # questions and titles repeat with every passage: they are copied from only where there is
        # nothing else, when answering from the question alone; an end may always be copied
        barred = inside.any(1, keepdim=True) & (source.tokens != SEP)
        aside = torch.where(barred, -30.0, -2.0)
        prior = torch.where(inside, prior, aside.to(prior.dtype))
        continues = torch.zeros_like(inside)
        continues[:, 1:] = inside[:, 1:] & (source.sentence[:, 1:] == source.sentence[:, :-1])
        return Encoded(
            states=states,
            keys=self.key(states),
            prior=prior,
            selection=selection,
            spot=spot,
            valid=source.valid,
            tokens=source.tokens,
            sentence=source.sentence,
            continues=continues,
            opens=source.opens,
        )

    def focused(self, encoded: Encoded, sentence: Tensor, others: float = UNLIKELY) -> Encoded:
        """`encoded` as if only `sentence` [B] could hold the answer, the log prior of all others
        being `others`; NULL leaves a row as it is.

        An answer is written from one sentence: two that are nearly as likely would otherwise be
        woven into one. A question is about one sentence, and may name what others tell of.
        """
        decided = (sentence > NULL).unsqueeze(1)  # [B, 1]
        inside = encoded.sentence > NULL
        chosen = inside & (encoded.sentence == sentence.unsqueeze(1))  # [B, N]
        own = encoded.selection.gather(1, encoded.sentence.clamp(min=0)).exp() * inside
        change = (chosen.float() - own) * decided
        states = encoded.states + change.unsqueeze(-1).to(encoded.states.dtype) * self.mark
        prior = torch.where(chosen, 0.0, others).to(encoded.prior.dtype)
        return replace(
            encoded,
            states=states,
            keys=self.key(states),
            prior=torch.where(inside & decided, prior, encoded.prior),
            opens=encoded.opens & (chosen | ~decided),
        )

    def _read(self, source: SourceBatch) -> Tensor:
        """Encoder states of every row's tokens [B, N, D].

        Passages of like length are read together: padding all of a batch to its longest would
        double the work (measured in training: 5,800 positions for 2,800 tokens).
        """
        lengths = source.attention_mask.sum(1)
        begin = torch.zeros_like(lengths)  # where each passage's states begin
        parts, at = [], 0
        for group in _alike(lengths.tolist()):
            width = int(lengths[group].max())
            read = self.bart.encoder(
                input_ids=source.input_ids[group, :width],
                attention_mask=source.attention_mask[group, :width],
            ).last_hidden_state
            parts.append(read.flatten(0, 1))
            begin[group] = at + width * torch.arange(len(group), device=lengths.device)
            at += width * len(group)
        length = source.input_ids.shape[1]
        number, place = source.gather // length, source.gather % length
        spread = torch.arange(number.numel(), device=number.device).view_as(number) % at
        index = torch.where(source.valid, begin[number] + place, spread)
        chosen = torch.cat(parts).index_select(0, index.flatten())
        return chosen.unflatten(0, index.shape)

    def _select(self, states: Tensor, source: SourceBatch) -> tuple[Tensor, Tensor]:
        """log p(token) over the row's sentences and [CLS] tokens, and its sum by sentence."""
        logits = self.select(states).squeeze(-1).float() + source.behind  # [B, N]
        counted = source.valid & (source.sentence != OUTSIDE)
        spot = torch.log_softmax(logits.masked_fill(~counted, -1e4), dim=1)
        columns = torch.arange(source.sentences, device=logits.device)
        belongs = (source.sentence.unsqueeze(-1) == columns) & counted.unsqueeze(-1)  # [B, N, S]
        return spot, torch.logsumexp(spot.unsqueeze(-1).masked_fill(~belongs, -1e4), dim=1)

    def decode(
        self, target: Tensor, encoded: Encoded, cache=None, before: Tensor | None = None
    ) -> Step:
        """Next-token distribution after each of `target` [B, T]; with a cache, T new tokens, and
        `before` [B, 1] the one in front of them."""
        hidden = self.bart.decoder(
            input_ids=target,
            encoder_hidden_states=encoded.states,
            encoder_attention_mask=encoded.valid.long(),
            cache=cache,
            use_cache=cache is not None,
        ).last_hidden_state  # [B, T, D]
        scores = self.query(hidden) @ encoded.keys.transpose(1, 2) / hidden.shape[-1] ** 0.5
        scores = scores.float() + self.prior_weight * encoded.prior.unsqueeze(1)
        scores = scores + self._following(target, before, encoded)
        pointer = scores.masked_fill(~encoded.valid.unsqueeze(1), -1e9).softmax(-1)  # [B, T, N]
        context = pointer.to(hidden.dtype) @ encoded.states  # [B, T, D]
        gate = torch.sigmoid(self.gate(torch.cat([hidden, context], -1)).squeeze(-1).float())
        return Step(gate, hidden, self.quick_words or self._words, pointer)

    def _words(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.bart.shared.weight)

    def _following(self, target: Tensor, before: Tensor | None, encoded: Encoded) -> Tensor:
        """A bonus [B, T, N] for source tokens whose predecessors are the words just written."""
        if before is None:
            before = torch.zeros_like(target[:, :1])
        earlier = torch.cat([before, target[:, :-1]], 1)  # the word before each of `target`
        continues = encoded.continues.unsqueeze(1)  # [B, 1, N]
        one = (_shifted(encoded.tokens, 1).unsqueeze(1) == target.unsqueeze(-1)) & continues
        two = one & (_shifted(encoded.tokens, 2).unsqueeze(1) == earlier.unsqueeze(-1))
        return one * self.follow[0].float() + two * self.follow[1].float()


def _alike(lengths: list[int]) -> list[list[int]]:
    """Numbers in groups whose longest is at most a third (and 8) above their shortest."""
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and lengths[groups[-1][0]] <= lengths[number] * 4 / 3 + 8:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def _shifted(tokens: Tensor, by: int) -> Tensor:
    """[B, N] moved right, so that place i holds the token `by` places before it; -1 at the edge."""
    return F.pad(tokens[:, :-by], (by, 0), value=-1)


def log_likelihood(step: Step, encoded: Encoded, target: Tensor, kept: Tensor) -> Tensor:
    """log p under the mixture of each word piece of `target` [B, T] where `kept` [B, T] -> [kept].

    The vocabulary is by far the dearest part, so positions that do not count never see it.
    """
    wanted = target[kept]  # [K]
    logits = step.words(step.hidden[kept]).float()  # [K, V]
    written = (logits.gather(1, wanted.unsqueeze(1)).squeeze(1) - logits.logsumexp(1)).exp()
    same = encoded.tokens.unsqueeze(1) == target.unsqueeze(-1)  # [B, T, N]
    copied = (step.pointer * same).sum(-1)[kept]
    gate = step.gate[kept]
    return torch.log(gate * written + (1 - gate) * copied + 1e-9)


def mixture(step: Step, encoded: Encoded, allowed: Tensor | None = None) -> Tensor:
    """p over the vocabulary for every position -> [B, T, V]; each row sums to 1.

    `allowed` [V] is True where a word piece may be written; copying is never restricted.
    """
    logits = step.words(step.hidden).float()
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -1e9)
    written = step.gate.unsqueeze(-1) * logits.softmax(-1)
    copied = (1 - step.gate).unsqueeze(-1) * step.pointer
    index = encoded.tokens.unsqueeze(1).expand_as(copied)
    return written.scatter_add(-1, index, copied)


def from_minilm(state: dict[str, Tensor], decoder_layers: int = 4) -> MiniModel:
    """A fresh model whose encoder is MiniLM's and whose decoder begins as a copy of its layers.

    BERT's post-norm layers map onto BART's one to one; position and token-type embeddings are
    added together. The decoder takes MiniLM's layers spread over its depth (0, 2, 3, 5 of 6), its
    cross-attention starting from their self-attention.
    """
    model = MiniModel(config(decoder_layers))
    bart = model.bart
    embeddings = {k.removeprefix("embeddings."): v for k, v in state.items() if "embeddings." in k}
    position = (
        embeddings["position_embeddings.weight"] + embeddings["token_type_embeddings.weight"][0]
    )
    with torch.no_grad():
        bart.shared.weight.copy_(embeddings["word_embeddings.weight"])
        for side in (bart.encoder, bart.decoder):
            side.embed_positions.weight[side.embed_positions.offset :].copy_(position)
            side.layernorm_embedding.weight.copy_(embeddings["LayerNorm.weight"])
            side.layernorm_embedding.bias.copy_(embeddings["LayerNorm.bias"])
        for number, layer in enumerate(bart.encoder.layers):
            _copy_layer(layer, state, number)
        depth = len(bart.encoder.layers)
        for number, layer in enumerate(bart.decoder.layers):
            source = round(number * (depth - 1) / max(1, decoder_layers - 1))
            _copy_layer(layer, state, source)
            _copy_attention(layer.encoder_attn, layer.encoder_attn_layer_norm, state, source)
    return model


def _copy_layer(layer: nn.Module, state: dict[str, Tensor], number: int) -> None:
    prefix = f"encoder.layer.{number}."
    _copy_attention(layer.self_attn, layer.self_attn_layer_norm, state, number)
    _copy(layer.fc1, state, prefix + "intermediate.dense")
    _copy(layer.fc2, state, prefix + "output.dense")
    _copy(layer.final_layer_norm, state, prefix + "output.LayerNorm")


def _copy_attention(attention, norm, state: dict[str, Tensor], number: int) -> None:
    prefix = f"encoder.layer.{number}.attention."
    _copy(attention.q_proj, state, prefix + "self.query")
    _copy(attention.k_proj, state, prefix + "self.key")
    _copy(attention.v_proj, state, prefix + "self.value")
    _copy(attention.out_proj, state, prefix + "output.dense")
    _copy(norm, state, prefix + "output.LayerNorm")


def _copy(module: nn.Module, state: dict[str, Tensor], name: str) -> None:
    module.weight.copy_(state[name + ".weight"])
    module.bias.copy_(state[name + ".bias"])
