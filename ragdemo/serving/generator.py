"""A generator shared by all visitors: rows of several visitors are written in one batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace

from ragdemo.errors import RagdemoError
from ragdemo.generation.base import Generator, Step, check_batch
from ragdemo.serving.job import PATIENCE, Job, Patience
from ragdemo.serving.line import Line
from ragdemo.serving.quiet import writing
from ragdemo.serving.ticket import current
from ragdemo.types import Answer, Chunk, Decoding, Hit, Prompt

ROWS = 8  # prompts in one batch: more slow everyone's words down
GRACE = 0.5  # seconds the model has to say the last word of a row that was cancelled
LANES = 8  # batches under way at a remote model, which joins them itself


class SharedGenerator:
    """A `Generator` behind a worker. Raises `Busy` where too many wait.

    `remote`: the model runs elsewhere. Visitors' rows are then sent side by side, not joined.
    """

    def __init__(
        self, generator: Generator, *, remote: bool = False, patience: Patience = PATIENCE
    ) -> None:
        self._generator = generator
        self.name, self.limit = generator.name, generator.limit
        self._remote = remote
        self._patience = patience
        lanes = LANES if remote else 1
        self._line = Line("generator", self._handle, most=ROWS, lanes=lanes, patience=patience)

    def __getattr__(self, name: str):
        # what only some models offer, such as ragdemo-mini's `ask`; never private state
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._generator, name)
        in_turn = {
            "ask": self._ask,
            "question_log_likelihood": self._question_log_likelihood,
            "trace": lambda prompt, decoding: self._called("trace", (prompt, decoding)),
        }
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
        return self._line.waiting()

    def expected_wait(self) -> float:
        """Seconds until a question asked now would be read, about. `Ticket.place` knows it for one
        that stands in line."""
        return self._line.expected_wait()

    def stream(
        self,
        prompts: Sequence[Prompt],
        decodings: Sequence[Decoding],
        cancelled: Sequence[threading.Event],
    ) -> Iterator[Step]:
        """As the protocol says; while waiting, repeats the last step of a row as a sign of life,
        so that a page can notice Stop. Leaving the iterator early cancels the rows, and so does
        cancelling the thread's `Ticket`.

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
        rows = [_Row(*given) for given in zip(prompts, cancelled, strict=True)]
        open_rows = dict(enumerate(rows))
        own = [row.leave for row in rows]  # not the caller's: those may be shared
        kind = "" if self._remote else "write"
        job = Job((list(prompts), list(decodings), own), len(rows), kind)
        for number, row in enumerate(rows):
            if row.ready_to_leave(job, self._patience.answer):
                yield Step(number, "", open_rows.pop(number).last(self.name))
        if not open_rows:
            return
        self._line.put(job)
        try:
            with closing(self._line.follow(job)) as followed:
                for news in followed:
                    if news is None:
                        number, row = next(iter(open_rows.items()))
                        yield Step(number, row.text)
                    elif row := open_rows.get(news.row):
                        if news.answer:
                            del open_rows[news.row]
                        yield row.take(news)
                    for number, row in list(open_rows.items()):
                        if row.ready_to_leave(job, self._patience.answer):
                            del open_rows[number]
                            yield Step(number, row.text, row.last(self.name))
                    if not open_rows:
                        return
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
            given = (list(prompts[turn]), list(texts[turn]), cancelled)
            scores += self._called("log_likelihood", given, cancelled)
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
        return self._line.result(Job((method, given), ROWS), cancelled)

    def _handle(self, jobs: Sequence[Job]) -> None:
        with nullcontext() if self._remote else writing:
            if isinstance(jobs[0].work[0], str):
                method, given = jobs[0].work
                jobs[0].tell(getattr(self._generator, method)(*given))
            else:
                self._write(jobs)

    def _write(self, jobs: Sequence[Job]) -> None:
        prompts, decodings, events = (
            [one for job in jobs for one in job.work[part]] for part in range(3)
        )
        owner = [(job, row) for job in jobs for row in range(job.rows)]
        unanswered = {job: job.rows for job in jobs}
        for step in self._generator.stream(prompts, decodings, events):
            self._line.spoke()
            job, row = owner[step.row]
            job.tell(Step(row, step.text, step.answer))
            unanswered[job] -= step.answer is not None
            if not unanswered[job]:
                job.end()


class _Row:
    """One row as the visitor who waits for it sees it."""

    def __init__(self, prompt: Prompt, cancelled: threading.Event) -> None:
        self.leave = threading.Event()  # tells the model
        self.text = ""
        self._prompt = prompt
        self._cancelled = cancelled
        self._ticket = current()
        self._left: float | None = None  # when it was told to leave
        self._late = False

    def take(self, news: Step) -> Step:
        """The step to pass on: a job tried again begins anew, and what was read stays."""
        if news.answer:
            answer = self._ended(news.answer)
            return Step(news.row, answer.text, answer)
        self.text = max(news.text, self.text, key=len)
        return Step(news.row, self.text)

    def ready_to_leave(self, job: Job, most: float) -> bool:
        """Whether nobody wants more of it, and the model had its time to end it well; at once
        where the model never began. `most`: seconds that writing may take."""
        now = time.monotonic()
        if self._left is None:
            stopped = self._cancelled.is_set() or (self._ticket and self._ticket.cancelled.is_set())
            self._late = not stopped and job.began is not None and now - job.began > most
            if not (stopped or self._late):
                return False
            self._left = now
            self.leave.set()
        return job.began is None or now - self._left > GRACE

    def last(self, model: str) -> Answer:
        return self._ended(Answer(self.text, self._prompt, model, finish="cancelled"))

    def _ended(self, answer: Answer) -> Answer:
        if answer.finish != "cancelled":
            return answer
        # one that took too long was cut at a limit, not by a visitor
        finish = "length" if self._late else "cancelled"
        return replace(answer, text=max(answer.text, self.text, key=len), finish=finish)
