"""Whether answers are being written on this machine: uploads then take smaller shares of it."""

from __future__ import annotations

import threading


class Writing:
    """Counts the threads inside `with writing:`."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_for_none(self, most: float | None = None) -> bool:
        """Until nobody writes, at most so many seconds; whether nobody does."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._count, most)


writing = Writing()  # one for the process: it has one processor
