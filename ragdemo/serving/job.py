"""What stands in a line, what ends it, and how long anybody waits. Knows no models, no threads."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ragdemo.errors import ModelUnavailable, RagdemoError


@dataclass(frozen=True, slots=True)
class Patience:
    """How long anybody waits, in seconds, and how many."""

    waiting: int = 60  # questions in line before "busy"
    line: float = 120.0  # in line
    # without a word from the model; a prompt of 4,000 tokens takes a large one a minute on a CPU
    silence: float = 120.0
    answer: float = 300.0  # one turn's writing; what is there then is the answer
    idle: float = 30.0  # a thread without a job ends then, and a model nobody holds can be freed


PATIENCE = Patience()


@dataclass(eq=False, slots=True)
class Job:
    """One thing to be done. `tell` and `end` are for the handler."""

    work: object
    rows: int = 1  # its share of a batch
    kind: str = ""  # neighbours of one kind share a batch; "" shares with nobody
    background: bool = False
    came: float = field(default_factory=time.monotonic)
    began: float | None = None  # None while it is in line
    ended: bool = False
    news: queue.SimpleQueue = field(default_factory=queue.SimpleQueue)
    _once: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, news: object) -> None:
        """News for whoever follows the job; never None."""
        self.news.put(news)

    def end(self, problem: BaseException | None = None) -> None:
        """Nothing more will come. Only the first call counts."""
        with self._once:
            ended, self.ended = self.ended, True
        if not ended:
            self.news.put(End(problem))


@dataclass(frozen=True, slots=True)
class End:
    problem: BaseException | None


@dataclass(eq=False, slots=True)
class Batch:
    """What one thread works on."""

    jobs: list[Job]
    began: float = field(default_factory=time.monotonic)
    spoke: float = field(default_factory=time.monotonic)  # when news came last


def rows(jobs: Sequence[Job]) -> int:
    return sum(job.rows for job in jobs)


def failed(problem: BaseException) -> RagdemoError:
    """What a visitor may be told of it."""
    if isinstance(problem, RagdemoError):
        return problem
    said = str(problem).strip().split("\n")[0][:200]
    if isinstance(problem, MemoryError) or "allocate memory" in said:
        return ModelUnavailable(
            "There was not enough memory for this. Ask for a shorter answer or fewer passages, or "
            "try again when fewer people ask."
        )
    what = type(problem).__name__ + (f": {said}" if said else "")
    return ModelUnavailable(
        f"The model failed ({what}). Ask again; if it fails again, choose another generator."
    )
