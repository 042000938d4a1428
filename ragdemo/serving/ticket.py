"""Whose work a thread does, so that any line it comes to wait in knows it. Knows no models.

me.ticket = Ticket(instead=me.ticket)
with me.ticket:
    ...  # encode, search, generate: all of it ends within a second of `cancelled`
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

_here = threading.local()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job stands in line."""

    before: int  # jobs that come first
    seconds: float  # until it begins, about

    @property
    def said(self) -> str:
        """How long the line is; "" where it is as good as none."""
        if not self.before and self.seconds < 1:
            return ""
        return f"In line: {self.before or 'nobody'} before you, about {self.seconds:.0f} s"


class Ticket:
    """One thing a visitor wants done. A visitor who draws a new one gives back the one before, so
    that nobody has two jobs in line.

    A thread that works `with ticket:` has at most one job outstanding, and leaves every line once
    `cancelled` is set: calls raise `Cancelled`, rows being written end as cancelled.
    """

    def __init__(
        self, *, instead: Ticket | None = None, cancelled: threading.Event | None = None
    ) -> None:
        self.cancelled = cancelled or threading.Event()
        self.where: Callable[[], Place | None] | None = None  # set by the line it stands in
        self._outer: Ticket | None = None
        if instead is not None:
            instead.cancelled.set()

    def place(self) -> Place | None:
        """Where it stands; None while nothing waits for its turn. From any thread."""
        where = self.where
        return where() if where else None

    def __enter__(self) -> Ticket:
        self._outer, _here.ticket = current(), self
        return self

    def __exit__(self, *_: object) -> None:
        if current() is self:  # a generator may be closed by another thread than ran it
            _here.ticket = self._outer


def current() -> Ticket | None:
    """The ticket of this thread's work, if it has one."""
    return getattr(_here, "ticket", None)
