"""Models shared by all visitors: one worker thread owns each, jobs wait in line.

`SharedEncoder` and `SharedGenerator` keep the protocols of what they wrap, so the pipeline never
knows whether it is alone. Waiting jobs are joined into one batch, first come first served;
questions go before the slices of a long ingestion: an upload delays nobody by more than one slice.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ragdemo.embedding import Encoder, Progress
from ragdemo.errors import Busy, ModelUnavailable, RagdemoError
from ragdemo.generation.base import Generator, Step, check_batch, stop_if
from ragdemo.types import Chunk, Decoding, Hit, Prompt

WAITING = 60  # jobs in line before "busy"
ROWS = 8  # prompts in one generator batch: more slow everyone's words down
SLICE = 16  # passages encoded before waiting questions get their turn
BEAT = 0.2  # seconds between signs of life while waiting
SUM_UP = 0.9  # how much of the old mean the expected time keeps

QUESTION, INGEST = 0, 1  # priorities


@dataclass(order=True)
class _Job:
    priority: int
    number: int
    work: object = field(compare=False)
    out: queue.SimpleQueue = field(compare=False, default_factory=queue.SimpleQueue)
    cancelled: Sequence[threading.Event] = field(compare=False, default=())
    alone: bool = field(compare=False, default=False)  # never joined with another


class _Worker:
    """A daemon thread that takes joined jobs from a bounded line and never dies of one of them."""

    def __init__(self, name: str, handle, most: int) -> None:
        self._handle = handle
        self._most = most  # weight of a batch
        self._line: queue.PriorityQueue[_Job] = queue.PriorityQueue(WAITING)
        self._numbers = itertools.count()
        self._seconds = 1.0  # a job's running mean
        self._name = name
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, work, *, priority=QUESTION, cancelled=(), alone=False) -> _Job:
        job = _Job(priority, next(self._numbers), work, cancelled=cancelled, alone=alone)
        try:
            self._line.put_nowait(job)
        except queue.Full:
            wait = max(1.0, self.expected_wait())
            raise Busy(
                f"Too many questions are waiting. Try again in {wait:.0f} seconds.", wait
            ) from None
        with self._start:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        return job

    def waiting(self) -> int:
        return self._line.qsize()

    def expected_wait(self) -> float:
        """Seconds until a job put in line now would begin, about."""
        return self.waiting() * self._seconds

    def _run(self) -> None:
        held: _Job | None = None
        while True:
            first, held = held or self._line.get(), None
            jobs, weight = [first], _weight(first)
            while weight < self._most and not first.alone:
                try:
                    following = self._line.get_nowait()
                except queue.Empty:
                    break
                if (
                    following.alone
                    or following.priority != first.priority
                    or weight + _weight(following) > self._most
                ):
                    held = following
                    break
                jobs.append(following)
                weight += _weight(following)
            begun = time.monotonic()
            try:
                self._handle(jobs)
            except RagdemoError as problem:
                _fail(jobs, problem)
            except Exception as problem:  # the next visitor must still be served
                _fail(jobs, _model_failed(problem))
            took = (time.monotonic() - begun) / len(jobs)
            self._seconds = SUM_UP * self._seconds + (1 - SUM_UP) * took


def _weight(job: _Job) -> int:
    return len(job.work[0])


def _fail(jobs: Sequence[_Job], problem: Exception) -> None:
    for job in jobs:
        job.out.put(problem)


def _model_failed(problem: Exception) -> ModelUnavailable:
    return ModelUnavailable(
        f"The model failed ({type(problem).__name__}: {problem}). Ask again; if it fails again, "
        "choose another generator."
    )


class SharedEncoder:
    """An `Encoder` behind a worker: questions of several visitors share a batch."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.name, self.dimension, self.limit = encoder.name, encoder.dimension, encoder.limit
        self.similarity = encoder.similarity
        self._worker = _Worker("encoder", self._handle, most=32)
        self._counting = threading.Lock()
        if hasattr(encoder, "token_vectors"):  # only some encoders see single words
            self.token_vectors = self._token_vectors

    def _handle(self, jobs: Sequence[_Job]) -> None:
        if jobs[0].alone:
            (job,) = jobs
            job.out.put(self._encoder.token_vectors(*job.work))
            return
        texts = [text for job in jobs for text in job.work[0]]
        encode = self._encoder.encode_queries
        if jobs[0].priority == INGEST:
            encode = self._encoder.encode_passages
        rows = encode(texts)
        start = 0
        for job in jobs:
            job.out.put(rows[start : start + len(job.work[0])])
            start += len(job.work[0])

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return _result(self._worker.submit((list(texts),)))

    def encode_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        result = np.zeros((len(texts), self.dimension), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # like lengths together
        for start in range(0, len(order), SLICE):
            part = order[start : start + SLICE]
            job = self._worker.submit(([texts[i] for i in part],), priority=INGEST)
            result[part] = _result(job)
            if progress:
                progress(start + len(part), len(texts))
        return result

    def _token_vectors(self, texts: Sequence[str]):
        return _result(self._worker.submit((list(texts),), alone=True))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        with self._counting:  # its tokenizer is a copy of its own, but one thread at a time
            return self._encoder.count_tokens(texts)


def _result(job: _Job):
    found = job.out.get()
    if isinstance(found, Exception):
        raise found
    return found


class SharedGenerator:
    """A `Generator` behind a worker: rows of several visitors share a batch."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.name, self.limit = generator.name, generator.limit
        self._worker = _Worker("generator", self._handle, most=ROWS)

    def __getattr__(self, name: str):
        # what only some models offer, such as ragdemo-mini's `ask`; never private state
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._generator, name)
        in_turn = {"ask": self._ask, "question_log_likelihood": self._question_log_likelihood}
        return in_turn.get(name, found)

    def prompt(
        self,
        question: str,
        hits: Sequence[Hit],
        *,
        decoding: Decoding,
        template: str | None = None,
        history: Sequence[tuple[str, str]] = (),
    ) -> Prompt:
        return self._generator.prompt(
            question, hits, decoding=decoding, template=template, history=history
        )

    def waiting(self) -> int:
        """Jobs in line."""
        return self._worker.waiting()

    def expected_wait(self) -> float:
        return self._worker.expected_wait()

    def stream(
        self,
        prompts: Sequence[Prompt],
        decodings: Sequence[Decoding],
        cancelled: Sequence[threading.Event],
    ) -> Iterator[Step]:
        """As the protocol says; while waiting, repeats the last step of a row as a sign of life,
        so that a page can notice Stop. Leaving the iterator early cancels the rows.

        More than `ROWS` take several turns in line, so that nobody waits for all of them.
        """
        check_batch(prompts, decodings, cancelled)
        failed: RagdemoError | None = None
        for start in range(0, len(prompts), ROWS):
            turn = slice(start, start + ROWS)
            try:
                for step in self._turn(prompts[turn], decodings[turn], cancelled[turn]):
                    yield Step(start + step.row, step.text, step.answer)
            except RagdemoError as problem:  # rows of later turns still get their answers
                failed = failed or problem
        if failed:
            raise failed

    def _turn(
        self,
        prompts: Sequence[Prompt],
        decodings: Sequence[Decoding],
        cancelled: Sequence[threading.Event],
    ) -> Iterator[Step]:
        own = [threading.Event() for _ in prompts]  # not the caller's: those may be shared
        job = self._worker.submit((list(prompts), list(decodings)), cancelled=own)
        texts = [""] * len(prompts)
        missing = set(range(len(prompts)))
        try:
            while missing:
                for mine, theirs in zip(own, cancelled, strict=True):
                    if theirs.is_set():
                        mine.set()
                try:
                    news = job.out.get(timeout=BEAT)
                except queue.Empty:
                    yield Step(0, texts[0])
                    continue
                if isinstance(news, Exception):
                    raise news
                texts[news.row] = news.text
                if news.answer:
                    missing.discard(news.row)
                yield news
        finally:
            for event in own:
                event.set()

    def log_likelihood(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        cancelled: threading.Event | None = None,
    ) -> list[float]:
        """As the protocol says, at most `ROWS` rows a turn: questions of others come between."""
        check_batch(prompts, texts)
        cancelled = cancelled or threading.Event()
        scores: list[float] = []
        for start in range(0, len(prompts), ROWS):
            turn = slice(start, start + ROWS)
            stop_if(cancelled)
            rows = (list(prompts[turn]), list(texts[turn]), cancelled)
            scores += self._called("log_likelihood", rows, cancelled)
        return scores

    def _ask(self, chunks: Sequence[Chunk]) -> list[str]:
        """A question for each chunk, from a model that writes them."""
        turns = range(0, len(chunks), ROWS)
        return [q for n in turns for q in self._called("ask", (list(chunks[n : n + ROWS]),))]

    def _question_log_likelihood(self, question: str, chunks: Sequence[Chunk]) -> list[float]:
        """log p(question | chunk) for each, from a model that can tell."""
        scores: list[float] = []
        for start in range(0, len(chunks), ROWS):
            part = list(chunks[start : start + ROWS])
            scores += self._called("question_log_likelihood", (question, part))
        return scores

    def _called(self, method: str, given: tuple, cancelled: threading.Event | None = None) -> list:
        """What the model's `method` gives, when its turn in line has come."""
        job = self._worker.submit(((), method, given), alone=True)
        while True:
            try:
                found = job.out.get(timeout=BEAT)
            except queue.Empty:
                if cancelled:
                    stop_if(cancelled)  # the model drops the job when its turn comes
                continue
            if isinstance(found, Exception):
                raise found
            return found

    def _handle(self, jobs: Sequence[_Job]) -> None:
        if jobs[0].alone:
            _, method, given = jobs[0].work
            jobs[0].out.put(getattr(self._generator, method)(*given))
            return
        prompts = [p for job in jobs for p in job.work[0]]
        decodings = [d for job in jobs for d in job.work[1]]
        events = [e for job in jobs for e in job.cancelled]
        owner = [(job, row) for job in jobs for row in range(len(job.work[0]))]
        unanswered = {id(job): len(job.work[0]) for job in jobs}
        try:
            for step in self._generator.stream(prompts, decodings, events):
                job, row = owner[step.row]
                job.out.put(Step(row, step.text, step.answer))
                unanswered[id(job)] -= step.answer is not None
        except Exception as problem:
            # rows that got their answer before another row failed keep it
            failed = problem if isinstance(problem, RagdemoError) else _model_failed(problem)
            _fail([job for job in jobs if unanswered[id(job)]], failed)
