"""Work under way, in a thread that knows nothing of Streamlit.

A page's script polls `updates`. A click ends that script and starts another, possibly before the
first has unwound, so whoever comes next calls `settle`: the work is cancelled, waited for shortly,
and its last news handed out exactly once.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Generic, TypeVar

from ragdemo.errors import ModelUnavailable, RagdemoError
from ragdemo.serving import Place, Ticket

PACE = 0.1  # seconds between two drawings at least: thirty visitors' tokens would fill a processor
BEAT = 0.25  # seconds at most: a script that was told to stop ends when it draws
GRACE = 0.8  # seconds a stopped piece of work gets to hand over what it has

T = TypeVar("T")


class Work(Generic[T]):
    """Runs `updates`, each of which tells all so far, under `ticket`, whose event they watch: once
    it is set, they leave any line of the models they wait in.

    `advice` completes the sentence about an unforeseen failure.
    """

    def __init__(self, updates: Iterator[T], ticket: Ticket, advice: str = "Try again.") -> None:
        self._updates = updates
        self._ticket = ticket
        self._advice = advice
        self._news: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._claim = threading.Lock()
        self._last: T | None = None
        self._problem: RagdemoError | None = None
        threading.Thread(target=self._run, name="work", daemon=True).start()

    def _run(self) -> None:
        try:
            with self._ticket:
                for update in self._updates:
                    self._last = update
                    with suppress(queue.Empty):  # overtaken; news can hold a model's weights
                        self._news.get_nowait()
                    self._news.put(update)
        except RagdemoError as problem:
            self._problem = problem
        except Exception as problem:  # the page must not wait for ever
            self._problem = ModelUnavailable(
                f"The work failed ({type(problem).__name__}: {problem}). {self._advice}"
            )
        finally:
            self._ended.set()
            self._news.put(None)

    @property
    def last(self) -> T | None:
        """The newest news, also for those who do not poll."""
        return self._last

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def updates(self) -> Iterator[T | None]:
        """The newest news, every `PACE` to `BEAT` seconds, repeating the last (None at first) while
        there is none."""
        update: T | None = None
        while True:
            yield update
            self._ended.wait(PACE)
            try:
                news = self._news.get(timeout=BEAT - PACE)
            except queue.Empty:
                if self.ended:  # another script of the same visitor took the closing None
                    return
                continue
            if news is None:
                return
            update = news

    def cancel(self) -> None:
        self._ticket.cancelled.set()

    def place(self) -> Place | None:
        """Where it stands in a model's line; None while it waits in none."""
        return self._ticket.place()

    def settle(self) -> tuple[T | None, str] | None:
        """The last news and why there is no more ("" where all went well); None for all but the
        first who asks."""
        if not self._claim.acquire(blocking=False):
            return None
        self.cancel()
        self._ended.wait(GRACE)
        return self._last, str(self._problem) if self._problem else ""
