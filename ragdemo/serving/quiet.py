"""Whether answers are being written on this machine: uploads then take smaller shares of it."""

from __future__ import annotations

import threading
import time


class Writing:
    """Counts the threads inside `with writing:`."""

    def __init__(self) -> None:
        self._count = 0
        self._ended = 0.0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._ended = time.monotonic()
            self._changed.notify_all()

    def quiet(self) -> float:
        """For how many seconds nobody has been writing; 0 while somebody is."""
        with self._changed:
            return 0.0 if self._count else time.monotonic() - self._ended

    def wait_for_none(self, most: float) -> bool:
        """Until nobody writes, at most so many seconds; whether nobody does."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._count, most)


writing = Writing()  # one for the process: it has one processor
