"""One question on its way, in a thread that knows nothing of Streamlit.

A page's script polls `updates`. A click ends that script and starts another, possibly before the
first has unwound, so whoever comes next calls `settle`: the work is cancelled, waited for shortly,
and its result handed out exactly once.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from ragdemo.errors import ModelUnavailable, RagdemoError
from ragdemo.generation.base import Generator
from ragdemo.pipeline import Update
from ragdemo.types import Comparison

BEAT = 0.1  # seconds between two looks at the thread
GRACE = 0.8  # seconds a stopped answer gets to hand over what it has


class Work:
    """Runs `updates` of the pipeline; `cancelled` is the event that they watch."""

    def __init__(
        self, updates: Iterator[Update], cancelled: threading.Event, generator: Generator
    ) -> None:
        self._updates = updates
        self._cancelled = cancelled
        self._generator = generator
        self._news: queue.SimpleQueue[Update | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._claim = threading.Lock()
        self._comparison: Comparison | None = None
        self._problem: RagdemoError | None = None
        threading.Thread(target=self._run, name="question", daemon=True).start()

    def _run(self) -> None:
        try:
            for update in self._updates:
                self._comparison = update.comparison
                self._news.put(update)
        except RagdemoError as problem:
            self._problem = problem
        except Exception as problem:  # the page must not wait for ever
            self._problem = ModelUnavailable(
                f"Answering failed ({type(problem).__name__}: {problem}). Ask again; if it fails "
                "again, choose another generator."
            )
        finally:
            self._ended.set()
            self._news.put(None)

    def waiting(self) -> int:
        """Questions in line before this one, where the generator has a line."""
        waiting = getattr(self._generator, "waiting", None)
        return waiting() if waiting else 0

    def updates(self) -> Iterator[Update]:
        """The newest news every `BEAT` or sooner, repeating the last while there is none."""
        update: Update | None = Update("searching")
        while update:
            yield update
            try:
                update = self._news.get(timeout=BEAT)
                while update and not self._news.empty():  # skip what is overtaken
                    update = self._news.get()
            except queue.Empty:
                continue

    def cancel(self) -> None:
        self._cancelled.set()

    def settle(self) -> Comparison | str | None:
        """The comparison, or why there is none; None for all but the first who asks."""
        if not self._claim.acquire(blocking=False):
            return None
        self.cancel()
        self._ended.wait(GRACE)
        if self._comparison:
            return self._comparison
        stopped = "Stopped before anything was written. Ask again when you like."
        return str(self._problem) if self._problem else stopped
