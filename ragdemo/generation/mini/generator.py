"""ragdemo-mini as a `Generator`: answers from passages, admits what they don't hold, and answers
from the question alone as the baseline. Also writes questions and scores them for re-ranking.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ragdemo.embedding import Encoder, native_bf16
from ragdemo.errors import LimitReached, ModelUnavailable
from ragdemo.generation.base import Step, check_batch, stop_if
from ragdemo.generation.mini import source as src
from ragdemo.generation.mini.decode import TINY, pieces, text_log_likelihoods
from ragdemo.generation.mini.model import NULL, Encoded, log_likelihood
from ragdemo.generation.mini.surface import Place, Writer
from ragdemo.generation.mini.weights import load
from ragdemo.generation.sampling import pick
from ragdemo.generation.scoring import slices
from ragdemo.types import Answer, Chunk, Decoding, Hit, Prompt, Segment

FOLDER = Path(__file__).resolve().parents[2] / "models" / "mini"
_SURROGATE = re.compile("[\ud800-\udfff]")
REFUSAL = "The documents do not say."
OPENERS = (
    "what who whom whose which when where why how is are was were do does did can could may must "
    "should will would has have in at for on from to by under within after"
).split()  # a question's first word
STARTS = 3


class MiniGenerator:
    """The bundled model. bf16 where the processor multiplies it natively, float32 elsewhere."""

    name = "ragdemo-mini"
    limit = src.MAX_TOKENS  # of each passage with its question; passages do not share it
    fusions = ("in decoder", "marginalise")

    def __init__(
        self, folder: Path = FOLDER, *, encoder: Encoder | None = None, bf16: bool | None = None
    ) -> None:
        """`encoder` compares each sentence with the question, a second opinion for choosing the
        one to answer from; without it the model chooses alone, and worse."""
        self._encoder = encoder
        self._model, self.facts = load(folder)
        tokenizer = folder / "tokenizer.json"
        if not tokenizer.exists():
            raise ModelUnavailable(f"{folder.name}/tokenizer.json is missing: check out again.")
        self._tokenizer = src.plain_tokenizer(str(tokenizer))
        self._lock = threading.Lock()  # one tokenizer in two threads corrupts both
        if bf16 if bf16 is not None else native_bf16():
            self._model.bfloat16()
        self._vocabulary = [
            self._tokenizer.id_to_token(i) for i in range(self._tokenizer.get_vocab_size())
        ]
        words = torch.tensor([not t.startswith("[") for t in self._vocabulary])
        words[src.SEP] = True
        digits = torch.tensor([any(c.isdigit() for c in t) for t in self._vocabulary])
        # beside passages, numbers are copied and never written from memory
        self._allowed = {"answer": words & ~digits, "closed": words}
        self._openers = [self._tokenizer.token_to_id(word) for word in OPENERS]

    # -- prompts

    def prompt(
        self,
        question: str,
        hits: Sequence[Hit],
        *,
        decoding: Decoding,
        template: str | None = None,
        history: Sequence[tuple[str, str]] = (),
    ) -> Prompt:
        """`template` and `history` have no place in this model; `pipeline.standalone` puts what a
        follow-up needs into its question. Nothing is reserved for the answer: the decoder has
        room of its own."""
        question = _whole(question)
        laid = self._lay(
            "answer" if hits else "closed", question, [_passage(h.chunk) for h in hits]
        )
        asked = self._tokens([question])[0]
        question_tokens = min(len(asked.ids), src.QUESTION_TOKENS)
        segments = [Segment("template", 3), Segment("question", question_tokens)]
        if hits:
            segments = [Segment("template", 4 * len(laid))]
            segments.append(Segment("question", question_tokens * len(laid)))
            segments += [
                Segment(f"passage {n}", len(p.ids) - question_tokens - 4)
                for n, (p, _) in enumerate(laid, start=1)
            ]
        cut = (
            {h.chunk.id: lost for h, (_, lost) in zip(hits, laid, strict=False) if lost}
            if hits
            else {}
        )
        return Prompt(
            question=question,
            used=tuple(hits),
            dropped=(),
            cut=cut,
            segments=tuple(segments),
            limit=len(laid) * src.MAX_TOKENS,
            text="\n\n".join(self._shown(p) for p, _ in laid),
            passages=tuple(_passage(h.chunk)[0] for h in hits),
        )

    def _tokens(self, texts: Sequence[str]) -> list[src.Tokens]:
        with self._lock:
            return src.tokenize(self._tokenizer, texts)

    def _lay(
        self, task: str, question: str, passages: Sequence[tuple[str, str]]
    ) -> list[tuple[src.Passage, int]]:
        """Sequences of one row with the tokens cut off each; (text, title) pairs in."""
        asked, *rest = self._tokens([question, *(t for pair in passages for t in pair)])
        if not passages:
            return [(src.passage(task, asked, None), 0)]
        laid = []
        for text, title in zip(rest[::2], rest[1::2], strict=True):
            p = src.passage(task, asked if task == "answer" else None, text, title)
            laid.append((p, len(text.ids) - (len(p.ids) - p.offset - 1)))
        return laid

    def _shown(self, p: src.Passage) -> str:
        with self._lock:
            text = self._tokenizer.decode(p.ids.tolist(), skip_special_tokens=False)
        for name, number in src.TASKS.items():
            text = text.replace(self._vocabulary[number], f"[{name}]")
        return text.replace(" ##", "")

    # -- answers

    @torch.inference_mode()
    def stream(
        self,
        prompts: Sequence[Prompt],
        decodings: Sequence[Decoding],
        cancelled: Sequence[threading.Event],
    ) -> Iterator[Step]:
        check_batch(prompts, decodings, cancelled)
        begun = time.monotonic()
        rows = [_Row(self, p, d) for p, d in zip(prompts, decodings, strict=True)]
        waiting = []
        for number, event in enumerate(cancelled):
            if event.is_set():  # while it stood in line
                yield Step(number, "", rows[number].answer("cancelled", begun))
            else:
                waiting.append(number)
        if not waiting:
            return
        for row in (rows[number] for number in waiting):
            row.read_in()
        encoded = self._model.encode(
            src.batch([rows[n].laid for n in waiting], [rows[n].prior for n in waiting]),
            self.facts.focus,
        )
        read = time.monotonic() - begun
        living = []
        for place, number in enumerate(waiting):
            row = rows[number]
            row.null = float(encoded.selection[place, NULL].exp())
            row.read = read
            if row.prompt.used and row.null > self.facts.refuse_above:
                row.writer.text = REFUSAL
                yield Step(number, REFUSAL, row.answer("refused", begun))
            else:
                living.append(number)
        if not living:
            return
        encoded = _rows(encoded, [waiting.index(number) for number in living])
        choosers = [_Chooser(rows[number].decoding) for number in living]

        def choose(probabilities: torch.Tensor) -> torch.Tensor:
            return torch.tensor([c(p) for c, p in zip(choosers, probabilities, strict=True)])

        open_rows = set(living)
        allowed = self._writable([rows[number].prompt for number in living])
        for piece in pieces(self._model, encoded, choose, allowed):
            for place, number in enumerate(living):
                if number not in open_rows:
                    continue
                row = rows[number]
                if cancelled[number].is_set():
                    finish = "cancelled"
                else:
                    finish = row.take(
                        int(piece.ids[place]), int(piece.source[place]), piece.pointer[place]
                    )
                if finish:
                    open_rows.discard(number)
                    yield Step(number, row.writer.text, row.answer(finish, begun))
                else:
                    yield Step(number, row.writer.text)
            if not open_rows:
                return

    @torch.inference_mode()
    def log_likelihood(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        cancelled: threading.Event | None = None,
    ) -> list[float]:
        """See `base.Generator.log_likelihood`: the probabilities that `stream` picks from.

        Before its first word the model decides whether to answer at all, so an answer from
        passages also has the log of p(the passages hold one), and the refusal that of its opposite.
        """
        check_batch(prompts, texts)
        wanted = [t.ids.tolist() for t in self._tokens([_whole(text) for text in texts])]
        most = self._model.bart.config.max_position_embeddings - 1
        if any(len(ids) > most for ids in wanted):
            raise LimitReached(
                f"An answer to weigh is longer than the {most} word pieces that {self.name} can "
                "write. Lower the longest answer (max_tokens)."
            )
        scores: list[float] = []
        for part in slices([len(ids) + 1 for ids in wanted], len(self._vocabulary)):
            stop_if(cancelled)
            different = {id(p): p for p in prompts[part]}
            rows = [_Row(self, p, Decoding()) for p in different.values()]
            for row in rows:
                row.read_in()
            encoded = self._model.encode(
                src.batch([r.laid for r in rows], [r.prior for r in rows]), self.facts.focus
            )
            stop_if(cancelled)
            places = [list(different).index(id(p)) for p in prompts[part]]
            encoded = _rows(encoded, places)
            allowed = self._writable(prompts[part])
            written = text_log_likelihoods(self._model, encoded, wanted[part], allowed)
            for place, (prompt, text) in enumerate(zip(prompts[part], texts[part], strict=True)):
                null = float(encoded.selection[place, NULL].exp())
                if prompt.used and text == REFUSAL:
                    scores.append(math.log(max(null, TINY)))
                elif prompt.used:
                    scores.append(math.log(max(1 - null, TINY)) + written[place])
                else:
                    scores.append(written[place])
        return scores

    def _writable(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """[B, 1, V] bool: the word pieces each row may write rather than copy."""
        tasks = ["answer" if p.used else "closed" for p in prompts]
        return torch.stack([self._allowed[task] for task in tasks]).unsqueeze(1)

    # -- questions

    @torch.inference_mode()
    def ask(self, chunks: Sequence[Chunk]) -> list[str]:
        """A question for each chunk that the chunk answers: of one for each of the `STARTS`
        likeliest opening words, the one with the likeliest words."""
        if not chunks:
            return []
        rows = [[self._lay("ask", "", [_passage(c)])[0][0]] for c in chunks]
        encoded = self._model.encode(src.batch(rows))
        tries = [_Asker(self._openers, rank) for _ in chunks for rank in range(STARTS)]
        encoded = _rows(encoded, [n for n in range(len(chunks)) for _ in range(STARTS)])

        def choose(probabilities: torch.Tensor) -> torch.Tensor:
            return torch.tensor([t(p) for t, p in zip(tries, probabilities, strict=True)])

        for _ in pieces(self._model, encoded, choose, self._allowed["answer"]):
            if all(t.done for t in tries):
                break
        written = []
        for start in range(0, len(tries), STARTS):
            best = max(tries[start : start + STARTS], key=lambda t: t.mean)
            writer = Writer(())
            for i in best.ids:
                writer.add(self._vocabulary[i], None)
            written.append(writer.text)
        return written

    @torch.inference_mode()
    def question_log_likelihood(self, question: str, chunks: Sequence[Chunk]) -> list[float]:
        """log p(question | chunk) per word piece for each chunk, for re-ranking (Sachan et al.
        2022, https://arxiv.org/abs/2204.07496)."""
        ids = self._tokens([question])[0].ids[: src.QUESTION_TOKENS].tolist()
        rows = [[self._lay("ask", "", [_passage(c)])[0][0]] for c in chunks]
        encoded = self._model.encode(src.batch(rows))
        inputs = torch.tensor([[src.CLS, *ids]] * len(chunks))
        labels = torch.tensor([[*ids, src.SEP]] * len(chunks))
        step = self._model.decode(inputs, encoded)
        kept = torch.ones_like(labels, dtype=torch.bool)
        return log_likelihood(step, encoded, labels, kept).view(labels.shape).mean(1).tolist()


class _Asker:
    """Writes one question: the `rank`-th likeliest of the words that open one, then the likeliest
    word pieces, never the same three twice."""

    def __init__(self, openers: list[int], rank: int) -> None:
        self._openers = openers
        self._rank = rank
        self._choose = _Chooser(Decoding())
        self._sum = 0.0
        self.ids: list[int] = []
        self.done = False

    @property
    def mean(self) -> float:
        """log p per word piece, [SEP] included."""
        return self._sum / (len(self.ids) + 1)

    def __call__(self, probabilities: torch.Tensor) -> int:
        if self.done:
            return src.SEP
        if self.ids:
            token = self._choose(probabilities)
        else:
            opening = probabilities[self._openers].argsort(descending=True)
            token = self._openers[int(opening[self._rank])]
        self._sum += float(probabilities[token].clamp(min=TINY).log())
        if token == src.SEP:
            self.done = True
        else:
            self.ids.append(token)
            self.done = len(self.ids) >= src.QUESTION_TOKENS
        return token


class _Chooser:
    """Greedy or sampled, but never the same three word pieces twice: a model this small would
    otherwise go round in circles when it answers from memory (as BART does by default)."""

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding
        self._random = torch.Generator().manual_seed(decoding.seed)
        self._written: list[int] = []
        self._after: dict[tuple[int, int], list[int]] = {}

    def __call__(self, probabilities: torch.Tensor) -> int:
        logs = probabilities.clamp(min=1e-12).log()
        last = tuple(self._written[-2:])
        if barred := self._after.get(last):
            logs[barred] = -torch.inf
        token = pick(logs, self._decoding, self._random)
        if len(last) == 2:
            self._after.setdefault(last, []).append(token)
        self._written.append(token)
        return token


class _Row:
    """One prompt being answered."""

    def __init__(self, generator: MiniGenerator, prompt: Prompt, decoding: Decoding) -> None:
        self.generator = generator
        self.prompt = prompt
        self.decoding = decoding
        self.laid: list[src.Passage] = []
        self.prior: list[np.ndarray] = []
        self.places: list[Place | None] = []
        self.writer = Writer(())
        self.pieces = 0
        self.share = [0.0] * len(prompt.used)
        self.null = 0.0
        self.read = 0.0

    def read_in(self) -> None:
        """Lay out the sequences; apart from making the row, since one cancelled never needs it."""
        texts = [_passage(h.chunk) for h in self.prompt.used]
        task = "answer" if texts else "closed"
        self.laid = [p for p, _ in self.generator._lay(task, self.prompt.question, texts)]
        self.prior = self._prior(texts)
        self.places = self._places(texts)
        self.writer = Writer(tuple(text for text, _ in texts))

    def _prior(self, texts: list[tuple[str, str]]) -> list[np.ndarray]:
        """log p(sentence | question) up to a constant, from what the retriever's encoder sees: the
        passage's score, as in RAG's marginalisation, and the sentence's own cosine."""
        facts, encoder = self.generator.facts, self.generator._encoder
        prior = [
            np.full(p.count, facts.passage_weight * h.score)
            for p, h in zip(self.laid, self.prompt.used, strict=False)
        ]
        if encoder is not None and facts.sentence_weight and texts:
            spans = [t.spans for t in self.generator._tokens([text for text, _ in texts])]
            said = [
                text[span.start : span.end]
                for (text, _), part, p in zip(texts, spans, self.laid, strict=True)
                for span in part[: p.count]
            ]
            if said:
                asked = encoder.encode_queries([self.prompt.question])[0]
                cosine = encoder.encode_queries(said) @ asked
                ends = np.cumsum([p.count for p in self.laid])[:-1]
                for part, own in zip(prior, np.split(cosine, ends), strict=True):
                    part += facts.sentence_weight * own
        return prior

    def _places(self, texts: list[tuple[str, str]]) -> list[Place | None]:
        """For every source token of the row, where it stands; None for special tokens."""
        asked, *rest = self.generator._tokens(
            [self.prompt.question, *(t for pair in texts for t in pair)]
        )
        places: list[Place | None] = []
        for number, p in enumerate(self.laid):
            here: list[Place | None] = [None] * len(p.ids)
            for at in range(min(len(asked.ids), src.QUESTION_TOKENS)):
                start, end = int(asked.start[at]), int(asked.end[at])
                word = self.prompt.question[start:end]
                here[2 + at] = Place(-1, start, end, word.lower() if start == 0 else word)
            if texts:
                text, title = texts[number]
                tokens, name = rest[2 * number], rest[2 * number + 1]
                begin = p.offset - len(name.ids[:24]) - 1
                for at, (start, end) in enumerate(zip(name.start[:24], name.end[:24], strict=True)):
                    here[begin + at] = Place(-1, int(start), int(end), title[start:end])
                for at in range(min(len(tokens.ids), len(p.ids) - p.offset - 1)):
                    start, end = int(tokens.start[at]), int(tokens.end[at])
                    here[p.offset + at] = Place(number, start, end, text[start:end])
            places += here
        return places

    def take(self, token: int, source: int, pointer: torch.Tensor) -> str | None:
        """Add a word piece; the reason to stop, if there is one."""
        if token == src.SEP:
            return "stop"
        self.pieces += 1
        at = 0
        for number in range(len(self.share)):
            length = len(self.laid[number].ids)
            self.share[number] += float(pointer[at : at + length].sum())
            at += length
        place = self.places[source] if 0 <= source < len(self.places) else None
        self.writer.add(self.generator._vocabulary[token], place)
        return "length" if self.pieces >= self.decoding.max_tokens else None

    def answer(self, finish: str, begun: float) -> Answer:
        total = sum(self.share)
        return Answer(
            text=self.writer.text,
            prompt=self.prompt,
            model=self.generator.name,
            tokens=self.pieces,
            finish=finish,
            seconds={"read": self.read, "write": time.monotonic() - begun - self.read},
            copied=self.writer.copied,
            shares=tuple(s / total for s in self.share) if total else (),
            confidence=1.0 - self.null if self.prompt.used else None,
        )


def _passage(chunk: Chunk) -> tuple[str, str]:
    """(text, title) as the model reads them: the file's name and headings say what it is about."""
    name = chunk.document_name.rsplit(".", 1)[0].replace("-", " ").replace("_", " ")
    return _whole(chunk.content), _whole(f"{name} {chunk.heading}".strip())


def _whole(text: str) -> str:
    """Lone surrogates, which no tokenizer takes, as replacement characters: lengths stay."""
    return _SURROGATE.sub("\ufffd", text)


def _rows(encoded: Encoded, rows: list[int]) -> Encoded:
    return Encoded(**{name: value[rows] for name, value in vars(encoded).items()})
