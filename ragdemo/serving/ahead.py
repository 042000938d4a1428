"""Work done while nobody asks, so that the next question finds it done."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress

from ragdemo.serving.quiet import writing
from ragdemo.types import Chunk

QUIET = 2.0  # seconds without an answer, and since the last new chunks: a first question goes first
MOST = 1_000  # chunks that wait; of more, the oldest are left to whoever asks about them


class Ahead:
    """Has `learn` called for one chunk after the other, whenever nothing else happens.

    Chunks are held weakly: for one whose visitor has left nothing is done.
    """

    def __init__(self, learn: Callable[[Sequence[Chunk]], None]) -> None:
        self._learn = learn
        self._waiting: dict[int, weakref.ref[Chunk]] = {}  # by identity, oldest first
        self._came = 0.0
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="ahead", daemon=True).start()

    def put(self, chunks: Sequence[Chunk]) -> None:
        with self._changed:
            self._waiting.update((id(chunk), weakref.ref(chunk)) for chunk in chunks)
            for oldest in list(self._waiting)[:-MOST]:
                del self._waiting[oldest]
            self._came = time.monotonic()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
            rest = QUIET - min(writing.quiet(), time.monotonic() - self._came)
            if rest > 0:
                time.sleep(rest)
            else:
                self._next()

    def _next(self) -> None:
        with self._changed:
            chunk = self._waiting.pop(next(iter(self._waiting)))()
        if chunk is not None:
            with suppress(Exception):  # whoever asks about it meets the same, and is told
                self._learn([chunk])
