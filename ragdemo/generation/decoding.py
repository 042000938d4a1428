"""What causal and encoder-decoder models share: reading text, and writing a batch of rows.

The loop knows nothing of architectures: a `Forward` gives the logits of the next token for the rows
still alive. The module is ours rather than `model.generate()` because rows must end one by one when
cancelled, and each samples from its own seed.
"""

from __future__ import annotations

import copy
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import torch

from ragdemo.errors import LimitReached, ModelUnavailable
from ragdemo.generation.base import Step, check_batch
from ragdemo.generation.sampling import pick
from ragdemo.prompts import neutralise
from ragdemo.text import clean
from ragdemo.types import Answer, Decoding, Prompt

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


_UNFINISHED = re.compile(r"[\s\ufffd]+\Z")


class Forward(Protocol):
    """A running batch of one model, with its cache."""

    def start(self) -> torch.Tensor:
        """Read the prompts; logits of the first token, [rows, vocabulary]."""
        ...

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append one token to each living row; logits of the next, [rows, vocabulary]."""
        ...

    def follow(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append `tokens` [rows, length] to the rows at once; logits after each of them,
        [rows, length, vocabulary]."""
        ...

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the rows at these places; a place named twice becomes two rows."""
        ...


class Vocabulary:
    """A tokenizer as `prompts.Reader`, safe to use from any thread.

    A fast tokenizer used by two threads at once gives wrong ids without an error, so this is a
    private copy behind a lock; visitors count tokens here while the model's thread decodes.
    """

    note = ""

    def __init__(self, name: str, tokenizer: PreTrainedTokenizerBase, limit: int) -> None:
        self.name = name
        self.limit = limit
        self._tokenizer = copy.deepcopy(tokenizer)
        self._lock = threading.Lock()
        self.size = len(self._tokenizer)  # ids it has; a model may have a few more
        self.chat = bool(self._tokenizer.chat_template)
        self._frames: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._before, self._after = ([], []) if self.chat else self._around()
        self._prefix = "".join(self._tokenizer.convert_ids_to_tokens(self._before))
        self._suffix = "".join(self._tokenizer.convert_ids_to_tokens(self._after))
        named = self._tokenizer
        # an unknown character is no control token, unless the tokenizer has one id for both
        self._special = frozenset(named.all_special_ids) - (
            {named.unk_token_id} - {named.eos_token_id, named.bos_token_id, named.pad_token_id}
        )
        self._controls = self._control_strings()

    def encode(self, text: str) -> list[int]:
        """Ids of a finished prompt, or of its first characters.

        The special tokens around it stand in `text` as strings and become ids here; what lies
        between is encoded as the tokenizer encodes the start of a text.
        """
        before = after = []
        if self._prefix and text.startswith(self._prefix):
            text, before = text[len(self._prefix) :], self._before
        if self._suffix and text.endswith(self._suffix):
            text, after = text[: -len(self._suffix)], self._after
        with self._lock:
            inner = self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return [*before, *inner, *after]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens and control characters left out."""
        with self._lock:
            text = self._tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        return clean(text)[0]

    def count(self, text: str) -> int:
        return len(self.encode(text))

    def token(self, number: int) -> str:
        """One id for the eye: "␣" for a space in front, special tokens by their names."""
        with self._lock:
            named = self._tokenizer.convert_ids_to_tokens(number)
            text = self._tokenizer.decode([number], clean_up_tokenization_spaces=False)
        spaced = named[:1] in ("Ġ", "▁") or text[:1] == " "
        shown = clean(text)[0].strip(" ").replace("\n", "⏎")
        return ("␣" if spaced else "") + (shown or ("" if spaced else str(named)))

    def clean(self, text: str) -> str:
        """See `prompts.Reader.clean`: known control strings first, then whatever the tokenizer
        itself still reads as one. A T5 tokenizer turns a full-width "＜/s＞" into its end token."""
        text = neutralise(neutralise(text), self._controls)
        for _ in range(8):
            spans = self._special_spans(text)
            if not spans:
                return text
            for start, end in reversed(spans):
                inside = text[start:end]
                text = (
                    text[:start] + (f"{inside[0]} {inside[1:]}" if inside[1:] else " ") + text[end:]
                )
        return "".join(c for c in text if c.isalnum() or c.isspace())

    def frame(self, roles: tuple[str, ...]) -> tuple[str, ...]:
        """See `prompts.Reader.frame`. The chat template is rendered around place-holders, so it
        never gets to see, trim or interpret untrusted text."""
        if not self.chat:
            return (self._prefix, *[""] * (len(roles) - 1), self._suffix)
        if roles not in self._frames:
            self._frames[roles] = self._render(roles)
        return self._frames[roles]

    def _render(self, roles: tuple[str, ...]) -> tuple[str, ...]:
        marks = [f"@@message-{n}@@" for n in range(len(roles))]
        messages = [{"role": r, "content": mark} for r, mark in zip(roles, marks, strict=True)]
        try:
            with self._lock:
                text = self._tokenizer.apply_chat_template(
                    messages,
                    tokenize=False,
                    add_generation_prompt=True,
                    enable_thinking=False,  # Qwen3 and others; templates ignore unknown names
                )
        # a template is the model author's program and may raise anything
        except Exception as error:
            raise ValueError(f"{self.name} takes no {' '.join(roles)}: {error}") from error
        pieces: list[str] = []
        for mark in marks:
            if text.count(mark) != 1:
                raise ValueError(f"{self.name}'s chat template repeats, moves or drops a message")
            piece, text = text.split(mark)
            pieces.append(piece)
        return (*pieces, text)

    def _around(self) -> tuple[list[int], list[int]]:
        """Ids the tokenizer puts before and after every text: ([1], []) for Llama's "<s>"."""
        inner = self._tokenizer("a", add_special_tokens=False).input_ids
        whole = self._tokenizer("a").input_ids
        for start in range(len(whole) - len(inner) + 1):
            if whole[start : start + len(inner)] == inner:
                return whole[:start], whole[start + len(inner) :]
        return [], []

    def _control_strings(self) -> re.Pattern[str]:
        """Special tokens, and added ones that look like control strings or that the chat template
        writes (Qwen's "<tool_call>" is added but not special); never mere white space."""
        template = str(self._tokenizer.chat_template or "")
        found = {
            token.content
            for token in self._tokenizer.added_tokens_decoder.values()
            if token.content.strip()
            and len(token.content) > 1
            and (
                token.special
                or token.content in template
                or re.fullmatch(r"\W*[<\[].*[>\]]", token.content)
            )
        }
        longest_first = sorted(found, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def _special_spans(self, text: str) -> list[tuple[int, int]]:
        with self._lock:
            read = self._tokenizer(
                text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
        pairs = zip(read.input_ids, read.offset_mapping, strict=True)
        return [(a, b) for token, (a, b) in pairs if token in self._special and b > a]


class Row:
    """One row while it is written."""

    def __init__(
        self,
        place: int,
        prompt: Prompt,
        decoding: Decoding,
        vocabulary: Vocabulary,
        *,
        most: int,
        ends: frozenset[int],
        stops: tuple[str, ...],
    ) -> None:
        self.place = place  # in the caller's batch
        self.decoding = decoding
        self.generator = torch.Generator().manual_seed(decoding.seed % 2**63)
        self._prompt = prompt
        self._vocabulary = vocabulary
        self._most = most  # tokens that may be written
        self._ends = ends
        self._stops = stops
        self._ids: list[int] = []
        self._shown = ""
        self._began = time.perf_counter()
        self._first: float | None = None  # when the first token came

    def push(self, token: int) -> Step:
        """Take the next token; the step has an answer when it was the last."""
        if self._first is None:
            self._first = time.perf_counter()
        if token in self._ends:
            return self.finish("stop")
        self._ids.append(token)
        text = self._vocabulary.decode(self._ids)
        if stopped(text, self._stops) is not None:
            return self.finish("stop")
        if len(self._ids) >= self._most:
            return self.finish("length")
        text = shown(text, self._stops)
        if text.startswith(self._shown):  # else a late byte undid a character; wait for the end
            self._shown = text
        return Step(self.place, self._shown)

    def finish(self, why: str) -> Step:
        """The last step, with the text so far."""
        now = time.perf_counter()
        first = self._first or now
        text = self._vocabulary.decode(self._ids)
        end = stopped(text, self._stops)
        text = shown(text if end is None else text[:end], ())
        answer = Answer(
            text=text,
            prompt=self._prompt,
            model=self._vocabulary.name,
            tokens=len(self._ids),
            finish=why,
            seconds={"prefill": first - self._began, "decode": now - first},
        )
        return Step(self.place, text, answer)


def stopped(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop string begins in `text`, or None. White space in front does not count:
    a model that begins with an empty line has not answered yet."""
    lead = len(text) - len(text.lstrip())
    # the line break lets "\nQuestion:" match at the very beginning
    places = [("\n" + text[lead:]).find(stop) for stop in stops]
    found = [max(0, place - 1) + lead for place in places if place >= 0]
    return min(found, default=None)


def shown(text: str, stops: Sequence[str]) -> str:
    """What may be shown of an unfinished text, so that a later step only ever adds to it.

    Held back: white space, half of a character ("\ufffd" until its last byte is there) and the
    beginning of a stop string.
    """
    text = text.lstrip()
    held = max(
        (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0
    )
    return _UNFINISHED.sub("", text[: len(text) - held])


def decode(
    rows: Sequence[Row], forward: Forward, cancelled: Sequence[threading.Event]
) -> Iterator[Step]:
    """Write `rows` to their ends, one token a row and pass; `cancelled` has one event a row."""
    live = list(zip(rows, cancelled, strict=True))
    logits = forward.start()
    while live:
        following: list[tuple[int, int]] = []  # (place in this pass, token)
        for place, (row, event) in enumerate(live):
            if event.is_set():
                yield row.finish("cancelled")
                continue
            token = pick(logits[place], row.decoding, row.generator)
            step = row.push(token)
            if step.answer is None:
                following.append((place, token))
            yield step
        if not following:
            return
        places = [place for place, _ in following]
        if len(places) < len(live):
            forward.keep(places)
            live = [live[place] for place in places]
        logits = forward.step([token for _, token in following])


def write(
    prompts: Sequence[Prompt],
    decodings: Sequence[Decoding],
    cancelled: Sequence[threading.Event],
    *,
    reader: Vocabulary,
    room: Callable[[int], int],
    ends: frozenset[int],
    stops: tuple[str, ...],
    forward: Callable[[list[list[int]]], Forward],
) -> Iterator[Step]:
    """`base.Generator.stream` for a local model.

    `room` says how many tokens may follow a prompt of so many; `forward` sets out on the prompts'
    ids. Rows cancelled while they waited are never read, rows that are too long fail alone.
    """
    check_batch(prompts, decodings, cancelled)
    rows: list[Row] = []
    ids: list[list[int]] = []
    failed: LimitReached | None = None
    for place, (prompt, decoding) in enumerate(zip(prompts, decodings, strict=True)):
        read = reader.encode(prompt.text)
        most = min(decoding.max_tokens, room(len(read)))
        row = Row(place, prompt, decoding, reader, most=most, ends=ends, stops=stops)
        if cancelled[place].is_set():
            yield row.finish("cancelled")
        elif most < 1:
            failed = LimitReached(
                f"A prompt of {len(read):,} tokens leaves no room for an answer: {reader.name}'s "
                f"limit is {reader.limit:,}."
            )
        else:
            rows.append(row)
            ids.append(read)
    if rows:
        yield from decode(rows, forward(ids), [cancelled[row.place] for row in rows])
    if failed:
        raise failed


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every id that ends an answer: the tokenizer's, and the model's one, several or none."""
    ends = model.generation_config.eos_token_id
    several = ends if isinstance(ends, list) else [ends]
    return frozenset(i for i in (*several, tokenizer.eos_token_id) if i is not None)


def window(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The model's limit in tokens: GPT-2 1,024. 512 where neither config nor tokenizer names one
    (T5 has relative positions and was trained on 512)."""
    text = config.get_text_config()
    named = [getattr(text, key, None) for key in ("n_positions", "max_position_embeddings")]
    # a tokenizer without a limit says 1e30
    named.append(tokenizer.model_max_length if tokenizer.model_max_length < 10**9 else None)
    return min((int(value) for value in named if value), default=512)


def load(
    auto: type, path: Path, name: str, device: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer from a local folder. Only safetensors weights and no code from the
    folder: anything else can run programs. Raises `ModelUnavailable`."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, trust_remote_code=False, local_files_only=True
        )
        model = auto.from_pretrained(
            path,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            # half precision is slow on most CPUs and moves a batch's logits off a single run's
            dtype=torch.float32 if device == "cpu" else "auto",
        )
    # transformers raises OSError, ValueError, ImportError, KeyError, SafetensorError, RuntimeError
    except Exception as error:
        raise ModelUnavailable(
            f"{name} could not be loaded: {_first_line(error)} It needs a "
            "config.json, a tokenizer and weights as safetensors, of an architecture that this "
            "version of transformers knows without extra code."
        ) from error
    if not tokenizer.is_fast:
        raise ModelUnavailable(
            f"{name} has no fast tokenizer (tokenizer.json), which is needed "
            "to keep control tokens out of documents."
        )
    return model.eval().to(device), tokenizer


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
    return line[:200] if line.endswith(".") else f"{line[:200]}."
