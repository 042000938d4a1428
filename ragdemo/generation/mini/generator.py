"""ragdemo-mini as a `Generator`: answers from passages, admits what they don't hold, and answers
from the question alone as the baseline. Also writes questions and scores them for re-ranking.
"""

from __future__ import annotations

import math
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
from ragdemo.generation.mini.again import not_here
from ragdemo.generation.mini.choosing import OPENERS, Asker
from ragdemo.generation.mini.decode import TINY, pieces, text_log_likelihoods
from ragdemo.generation.mini.model import AROUND, NULL, Encoded, log_likelihood
from ragdemo.generation.mini.prior import Prior
from ragdemo.generation.mini.row import REFUSAL, Row, lay, likeliest
from ragdemo.generation.mini.surface import Writer
from ragdemo.generation.mini.watching import watched
from ragdemo.generation.mini.weights import load
from ragdemo.generation.mini.words import words
from ragdemo.generation.mini.writing import Writing
from ragdemo.generation.scoring import slices
from ragdemo.generation.tracing import TokenStep
from ragdemo.text import content_words
from ragdemo.types import Chunk, Decoding, Hit, Prompt, Segment, Span

FOLDER = Path(__file__).resolve().parents[2] / "models" / "mini"
SENTENCES, STARTS = 3, 2  # sentences of a chunk, and opening words, that questions are tried for
LEADS_BACK = 4.0  # a cosine of 0.1 outweighs this many tenths of a nat a word piece


class MiniGenerator:
    """The bundled model. bf16 where the processor multiplies it natively; elsewhere float32, but
    for the vocabulary's int8."""

    name = "ragdemo-mini"
    limit = src.MAX_TOKENS  # of each passage with its question; passages do not share it
    fusions = ("in decoder", "marginalise")

    def __init__(
        self, folder: Path = FOLDER, *, encoder: Encoder | None = None, bf16: bool | None = None
    ) -> None:
        """`encoder` compares each sentence with the question, a second opinion for choosing the
        one to answer from; without it the model chooses alone, and worse. `bf16=False`: float32
        throughout, as training needs it."""
        self._encoder = encoder
        self._model, self.facts = load(folder)
        self._prior = Prior(encoder, self.facts.passage_weight, self.facts.sentence_weight)
        tokenizer = folder / "tokenizer.json"
        if not tokenizer.exists():
            raise ModelUnavailable(f"{folder.name}/tokenizer.json is missing: check out again.")
        self._tokenizer = src.plain_tokenizer(str(tokenizer))
        self._lock = threading.Lock()  # one tokenizer in two threads corrupts both
        if bf16 if bf16 is not None else native_bf16():
            self._model.bfloat16()
        elif bf16 is None:
            self._model.quick_words = words(self._model.bart.shared.weight)
        self._vocabulary = [
            self._tokenizer.id_to_token(i) for i in range(self._tokenizer.get_vocab_size())
        ]
        written = torch.tensor([not t.startswith("[") for t in self._vocabulary])
        written[src.SEP] = True
        self.inner = torch.tensor([t.startswith("##") for t in self._vocabulary])
        digits = torch.tensor([any(c.isdigit() for c in t) for t in self._vocabulary])
        # beside passages, numbers are copied and never written from memory
        self._allowed = {"answer": written & ~digits, "closed": written}
        self._openers = [self._tokenizer.token_to_id(word) for word in OPENERS]

    @property
    def precision(self) -> str:
        """What it calculates with."""
        numbers = str(next(self._model.parameters()).dtype).removeprefix("torch.")
        return f"{numbers}, its vocabulary in int8" if self._model.quick_words else numbers

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
        question = src.whole(question)
        asked, bodies = self.read(question, [src.passage_of(h.chunk) for h in hits])
        laid = lay("answer" if hits else "closed", asked, bodies)
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
            passages=tuple(src.passage_of(h.chunk)[0] for h in hits),
        )

    def _tokens(self, texts: Sequence[str]) -> list[src.Tokens]:
        with self._lock:
            return src.tokenize(self._tokenizer, texts)

    def read(
        self, question: str, passages: Sequence[tuple[str, str]]
    ) -> tuple[src.Tokens, list[tuple[src.Tokens, src.Tokens]]]:
        """Question and (text, title) pairs in word pieces."""
        asked, *rest = self._tokens([question, *(t for pair in passages for t in pair)])
        return asked, list(zip(rest[::2], rest[1::2], strict=True))

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
        rows = [Row(self, p, d) for p, d in zip(prompts, decodings, strict=True)]
        waiting = []
        for number, event in enumerate(cancelled):
            if event.is_set():  # while it stood in line
                yield Step(number, "", rows[number].answer("cancelled", begun))
            else:
                waiting.append(number)
        if not waiting:
            return
        reading = [rows[number] for number in waiting]
        for row in reading:
            row.read_in()
        encoded = self._encode(reading)
        nulls = not_here(self, reading, encoded).tolist()
        read = time.monotonic() - begun
        writing: list[Writing] = []
        closed: list[tuple[int, Row]] = []
        for place, number in enumerate(waiting):
            row = rows[number]
            row.number, row.read, row.null = number, read, nulls[place]
            if row.refusing:
                row.refuse()
                yield Step(number, REFUSAL, row.answer("refused", begun))
                continue
            row.begin(encoded.selection[place], encoded.tokens[place].tolist())
            if row.texts:
                writing.append(Writing(self, [(place, row)], encoded))
            else:
                closed.append((place, row))
        if closed:
            writing.append(Writing(self, closed, encoded))
        # a piece of each in turn, so that every answer grows
        while writing:
            for part in list(writing):
                for row, finish in part.go_on(cancelled):
                    answer = row.answer(finish, begun) if finish else None
                    yield Step(row.number, row.text, answer)
                if not part.rows:
                    writing.remove(part)

    @torch.inference_mode()
    def trace(self, prompt: Prompt, decoding: Decoding) -> tuple[TokenStep, ...]:
        """See `tracing.Traceable`."""
        return watched(self, prompt, decoding)

    def learn(self, chunks: Sequence[Chunk]) -> None:
        """Work out what answers from these chunks need whatever is asked, so that their first
        question need not wait for it. From any thread; a chunk that is known costs nothing."""
        self._prior.learn(chunks)

    def _encode(self, rows: Sequence[Row]) -> Encoded:
        prior = self._prior([r.prompt.question for r in rows], [r.candidates for r in rows])
        return self._model.encode(src.batch([r.laid for r in rows], prior))

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
        wanted = [t.ids.tolist() for t in self._tokens([src.whole(text) for text in texts])]
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
            rows = [Row(self, p, Decoding()) for p in different.values()]
            for row in rows:
                row.read_in()
            encoded = self._encode(rows)
            nulls = not_here(self, rows, encoded).tolist()
            encoded = self._model.focused(encoded, likeliest(encoded))
            stop_if(cancelled)
            places = [list(different).index(id(p)) for p in prompts[part]]
            encoded = encoded.rows(places)
            allowed = self._writable(prompts[part])
            written = text_log_likelihoods(self._model, encoded, wanted[part], allowed)
            for place, (prompt, text) in enumerate(zip(prompts[part], texts[part], strict=True)):
                null = nulls[places[place]]
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
        """A question for each chunk that the chunk answers.

        Of several, about its fullest sentences and with the likeliest opening words, the one that
        is likeliest and leads back to the chunk: round-trip consistency (Alberti et al. 2019,
        https://arxiv.org/abs/1906.05416) by the encoder's cosine, where there is an encoder.
        """
        if not chunks:
            return []
        rows, spans = self._to_ask(chunks)
        about = [
            _fullest(src.whole(c.content), part) for c, part in zip(chunks, spans, strict=True)
        ]
        encoded = self._model.encode(src.batch(rows))
        places = [n for n, numbers in enumerate(about) for _ in numbers for _ in range(STARTS)]
        sentences = [number for numbers in about for number in numbers for _ in range(STARTS)]
        tries = [Asker(self._openers, at % STARTS) for at in range(len(places))]
        encoded = self._model.focused(encoded.rows(places), torch.tensor(sentences), AROUND)

        def choose(probabilities: torch.Tensor) -> torch.Tensor:
            return torch.tensor([t(p) for t, p in zip(tries, probabilities, strict=True)])

        for _ in pieces(self._model, encoded, choose, self._allowed["answer"]):
            if all(t.done for t in tries):
                break
        texts = [self._written(t.ids) for t in tries]
        worth = np.array([t.mean for t in tries])
        if self._encoder is not None:
            own = self._encoder.encode_passages([chunk.content for chunk in chunks])[places]
            worth += LEADS_BACK * (self._encoder.encode_queries(texts) * own).sum(1)
        best = [
            max((w, t) for w, t, at in zip(worth, texts, places, strict=True) if at == n)
            for n in range(len(chunks))
        ]
        return [text for _, text in best]

    def _written(self, ids: Sequence[int]) -> str:
        writer = Writer(())
        for i in ids:
            writer.add(self._vocabulary[i], None)
        return writer.text

    def _to_ask(
        self, chunks: Sequence[Chunk]
    ) -> tuple[list[list[src.Passage]], list[Sequence[Span]]]:
        """Each chunk's sequence, and its sentences that were not cut off."""
        asked, bodies = self.read("", [src.passage_of(c) for c in chunks])
        rows = [[lay("ask", asked, [body])[0][0]] for body in bodies]
        kept = [body.spans[: p.count] for (body, _), (p,) in zip(bodies, rows, strict=True)]
        return rows, kept

    @torch.inference_mode()
    def question_log_likelihood(self, question: str, chunks: Sequence[Chunk]) -> list[float]:
        """log p(question | chunk) per word piece for each chunk, for re-ranking (Sachan et al.
        2022, https://arxiv.org/abs/2204.07496)."""
        ids = self._tokens([question])[0].ids[: src.QUESTION_TOKENS].tolist()
        rows, _ = self._to_ask(chunks)
        encoded = self._model.encode(src.batch(rows))
        inputs = torch.tensor([[src.CLS, *ids]] * len(chunks))
        labels = torch.tensor([[*ids, src.SEP]] * len(chunks))
        step = self._model.decode(inputs, encoded)
        kept = torch.ones_like(labels, dtype=torch.bool)
        return log_likelihood(step, encoded, labels, kept).view(labels.shape).mean(1).tolist()


def _fullest(text: str, spans: Sequence[Span]) -> list[int]:
    """Numbers, from 1, of the sentences with the most different content words; NULL for none."""
    full = [len(set(content_words(text[s.start : s.end]))) for s in spans]
    return [n + 1 for n in sorted(range(len(full)), key=lambda n: -full[n])[:SENTENCES]] or [NULL]
