"""A bounded line of jobs before what only one thread at a time may use. Knows no models.

First come, first served; neighbours in line share a batch. Background work (slices of an upload)
has its turn when no question waits. Every job ends once: with what the handler told, or with one
sentence why not. A thread that dies is replaced, one that hangs is noticed by those who wait.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress

from ragdemo.errors import Busy, Cancelled, ModelUnavailable
from ragdemo.serving.job import PATIENCE, Batch, End, Job, Patience, failed, rows
from ragdemo.serving.pace import Pace
from ragdemo.serving.ticket import Place, current

BEAT = 0.2  # seconds between signs of life while waiting
# A question often encodes several times in a row; between two of them no slice of an upload begins.
LINGER = 0.02

_thread = threading.local()  # .works: this thread serves a line


def serving() -> bool:
    """Whether this thread serves a line: what it asks of another is part of a job under way."""
    return getattr(_thread, "works", False)


class Line:
    """Jobs wait here for `handle(jobs)`, which tells each its news and may end it early.

    `most` rows make a batch; one job may have more. With several `lanes` as many batches are under
    way at once: only for what several threads may use.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Sequence[Job]], None],
        *,
        most: int,
        lanes: int = 1,
        patience: Patience = PATIENCE,
    ) -> None:
        self._name = name
        self._handle = handle
        self._most = most
        self._lanes = lanes
        self._patience = patience
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._under_way: dict[threading.Thread, Batch | None] = {}  # None: between two batches
        self._pace = Pace()
        self._asked = -LINGER  # when a question was last served

    # -- for those who wait

    def put(self, job: Job) -> Job:
        """Stand in line. Raises `Busy` where it is full, `ModelUnavailable` where nothing moves.

        Background work and what a worker needs for a job already accepted are never refused; each
        has one job in line at most.
        """
        with self._changed:
            refusable = not job.background and not serving()
            if refusable and self._questions() >= self._patience.waiting:
                wait = max(1.0, self._until(len(self._waiting)))
                raise Busy(
                    f"Too many questions are waiting. Try again in {wait:.0f} seconds.", wait
                )
            if problem := self._stuck():
                raise problem
            self._waiting.append(job)
            free = list(self._under_way.values()).count(None)
            if free < len(self._waiting) and len(self._under_way) < self._lanes:
                self._start()
            self._changed.notify_all()
        return job

    def follow(self, job: Job) -> Iterator[object]:
        """The job's news, None every `BEAT` while there is none, until it ends. Leaving the
        iterator takes the job out of the line. Raises the job's `RagdemoError`."""
        ticket = current()
        if ticket:
            ticket.where = lambda: self.place(job)
        try:
            while True:
                try:
                    news = job.news.get(timeout=BEAT)
                except queue.Empty:
                    self._check(job)
                    yield None
                    continue
                if not isinstance(news, End):
                    yield news
                elif news.problem is None:
                    return
                else:
                    raise news.problem
        finally:
            self.leave(job)
            if ticket:
                ticket.where = None

    def result(self, job: Job, cancelled: threading.Event | None = None) -> object:
        """The only news of a job put in line here. Raises `Cancelled` within a `BEAT` of the
        event's or the ticket's being set."""
        ticket = current()
        events = [e for e in (cancelled, ticket and ticket.cancelled) if e]
        if any(event.is_set() for event in events):
            raise Cancelled("Stopped.")
        with closing(self.follow(self.put(job))) as followed:
            for news in followed:
                if news is not None:
                    return news
                if any(event.is_set() for event in events):
                    raise Cancelled("Stopped.")
        raise ModelUnavailable("The model ended without a result. Try again.")

    def leave(self, job: Job) -> None:
        """Take it out of the line, if it still waits there."""
        with self._changed, suppress(ValueError):
            self._waiting.remove(job)
        job.end()

    def place(self, job: Job) -> Place | None:
        """Where the job stands; None once it has begun or ended."""
        with self._changed:
            if job not in self._waiting:
                return None
            at = self._waiting.index(job)
            before = sum(job.background or not other.background for other in self._waiting[:at])
            return Place(before, self._until(at))

    def waiting(self) -> int:
        """Questions in line."""
        with self._changed:
            return self._questions()

    def expected_wait(self) -> float:
        """Seconds until a question put in line now would begin, about."""
        with self._changed:
            return self._until(len(self._waiting))

    def _questions(self) -> int:
        return sum(not job.background for job in self._waiting)

    def _until(self, at: int) -> float:
        """Seconds until a question at this place in line would begin."""
        running = [b for b in self._under_way.values() if b]
        free = len(running) < self._lanes
        rests = [self._rest(batch) for batch in running]
        before = sum(j.rows for j in self._waiting[:at] if not j.background)
        full = before // self._most  # the rest shares the job's own batch
        return (0.0 if free else min(rests)) + full * self._pace.batch(self._most) / self._lanes

    def _rest(self, batch: Batch) -> float:
        """Seconds until it ends; a slice of an upload is short enough to count for nothing."""
        if batch.jobs[0].background:
            return 0.0
        return max(0.0, self._pace.batch(rows(batch.jobs)) - (time.monotonic() - batch.began))

    def _check(self, job: Job) -> None:
        """Raise what waiting any longer would not cure."""
        with self._changed:
            if problem := self._stuck():
                raise problem
            waited = time.monotonic() - job.came
            if job.began is None and not job.ended and waited > self._patience.line:
                again = max(1.0, self._until(len(self._waiting)))
                raise Busy(
                    f"This waited {waited:.0f} seconds in line and had no turn. "
                    f"Try again in {again:.0f} seconds.",
                    again,
                )

    def _stuck(self) -> ModelUnavailable | None:
        """Why nothing moves: no batch has had news for too long, and no lane is free."""
        spoke = [batch.spoke for batch in self._under_way.values() if batch]
        if len(spoke) < self._lanes:
            return None
        silent = time.monotonic() - max(spoke)
        if silent <= self._patience.silence:
            return None
        return ModelUnavailable(
            f"The {self._name} has not answered for {silent:.0f} seconds and seems to be stuck. "
            "Try again later or choose another model; if it stays like this, the app has to be "
            "started anew."
        )

    # -- the threads

    def _start(self) -> None:
        thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
        self._under_way[thread] = None
        thread.start()

    def _serve(self) -> None:
        me = threading.current_thread()
        _thread.works = True
        batch: Batch | None = None
        try:
            while batch := self._next(me):
                self._run(batch)
                batch = None  # nobody's words are kept until the next one asks
        except BaseException as problem:  # SystemExit ends this thread; nobody may wait for it
            for job in batch.jobs if batch else ():
                job.end(failed(problem))
            if not isinstance(problem, SystemExit):
                raise
        finally:
            with self._changed:
                del self._under_way[me]
                if self._waiting and len(self._under_way) < self._lanes:
                    self._start()

    def _next(self, me: threading.Thread) -> Batch | None:
        """Wait for jobs and take those that share a batch; None where none comes for long."""
        with self._changed:
            self._under_way[me] = None
            until = time.monotonic() + self._patience.idle
            while True:
                now = time.monotonic()
                first = next((j for j in self._waiting if not j.background), None)
                wait = until - now
                if first is None and self._waiting:
                    wait = self._asked + LINGER - now
                    first = self._waiting[0] if wait <= 0 else None
                if first is not None:
                    break
                if wait <= 0:
                    return None
                self._changed.wait(wait)
            jobs = [first]
            for job in self._waiting[self._waiting.index(first) + 1 :]:
                if job.background and not first.background:
                    continue
                alike = bool(job.kind) and job.kind == first.kind
                # the first that does not fit ends the batch: nobody overtakes
                if not alike or rows(jobs) + job.rows > self._most:
                    break
                jobs.append(job)
            for job in jobs:
                self._waiting.remove(job)
            batch = self._under_way[me] = Batch(jobs)
            for job in jobs:
                job.began = batch.began
            return batch

    def _run(self, batch: Batch) -> None:
        """Have it handled; where several fail together each is tried alone, so that one visitor's
        text spoils nobody else's answer."""
        whole = True
        try:
            self._handle(batch.jobs)
        except Exception as problem:
            whole = False
            left = [job for job in batch.jobs if not job.ended]
            if len(left) == 1:
                left[0].end(failed(problem))
            for job in left if len(left) > 1 else ():
                batch.spoke = time.monotonic()
                try:
                    self._handle([job])
                except Exception as own:
                    job.end(failed(own))
                job.end()
        for job in batch.jobs:
            job.end()
        with self._changed:
            now = time.monotonic()
            if not batch.jobs[0].background:
                self._asked = now
                if whole:
                    self._pace.learn(rows(batch.jobs), now - batch.began)

    def spoke(self) -> None:
        """To be called by the handler whenever its model gives something."""
        batch = self._under_way.get(threading.current_thread())
        if batch:
            batch.spoke = time.monotonic()
