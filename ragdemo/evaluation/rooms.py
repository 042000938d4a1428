"""Rating together: a room with a code, in one running app.

The one place where something of a visitor reaches others, and only because that visitor opened it:
a room holds the items its host put in and the votes of those who came, nothing else. Rooms are few,
bounded and gone after hours; whoever has the code can read the answers in it.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ragdemo.errors import LimitReached, RagdemoError
from ragdemo.evaluation.humane import Item, Vote

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without I and 1, O and 0
LETTERS = 6  # 32^6: a billion codes for `ROOMS` rooms
ROOMS = 20
ITEMS = 100
RATERS = 100
HOURS = 6.0
TRIES = 20  # wrong codes a minute, of all visitors together


@dataclass
class _Room:
    items: tuple[Item, ...]
    key: str  # the host's
    ends: float
    raters: list[str] = field(default_factory=list)
    votes: dict[tuple[str, str], Vote] = field(default_factory=dict)  # (rater, item)


@dataclass(frozen=True, slots=True)
class Seen:
    """A room as it stands."""

    items: tuple[Item, ...]
    votes: tuple[Vote, ...]
    raters: int
    left: float  # seconds


class Rooms:
    """All rooms of one app; every method may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rooms: dict[str, _Room] = {}
        self._missed: list[float] = []
        self._one = threading.Lock()

    def open(self, items: Sequence[Item]) -> tuple[str, str]:
        """(code, host's key) of a new room. Raises LimitReached."""
        if not items:
            raise RagdemoError("There is nothing to rate yet. Run a question set first.")
        with self._one:
            self._sweep()
            if len(self._rooms) >= ROOMS:
                raise LimitReached(
                    f"All {ROOMS} rooms of this app are in use. Wait for one to close, or rate "
                    "alone on this page."
                )
            code = _code()
            while code in self._rooms:
                code = _code()
            key = secrets.token_hex(16)
            self._rooms[code] = _Room(tuple(items[:ITEMS]), key, self._clock() + 3600 * HOURS)
        return code, key

    def join(self, code: str) -> tuple[str, str]:
        """(the code as it is written, a rater's name). Raises RagdemoError where there is no such
        room, LimitReached where it is full or too many wrong codes were tried."""
        with self._one:
            self._sweep()
            code = "".join(c for c in code.upper() if c.isalnum())
            self._missed = [at for at in self._missed if self._clock() - at < 60]
            if len(self._missed) >= TRIES:
                raise LimitReached("Too many wrong codes were tried. Wait a minute.")
            room = self._rooms.get(code)
            if room is None:
                self._missed.append(self._clock())
                raise _gone()
            if len(room.raters) >= RATERS:
                raise LimitReached(f"This room is full: {RATERS} raters are in it.")
            name = f"rater {len(room.raters) + 1}"
            room.raters.append(name)
        return code, name

    def vote(self, code: str, vote: Vote) -> None:
        """Take a vote; a second one on the same item replaces the first."""
        with self._one:
            room = self._there(code)
            if vote.rater not in room.raters or vote.item not in {i.id for i in room.items}:
                raise _gone()
            room.votes[vote.rater, vote.item] = vote

    def seen(self, code: str) -> Seen:
        with self._one:
            room = self._there(code)
            votes, left = tuple(room.votes.values()), room.ends - self._clock()
            return Seen(room.items, votes, len(room.raters), left)

    def close(self, code: str, key: str) -> None:
        """Its host lets it go, votes and all; nobody else can."""
        with self._one:
            room = self._rooms.get(code)
            if room and secrets.compare_digest(room.key, key):
                del self._rooms[code]

    def _there(self, code: str) -> _Room:
        self._sweep()
        if code not in self._rooms:
            raise _gone()
        return self._rooms[code]

    def _sweep(self) -> None:
        now = self._clock()
        self._rooms = {code: room for code, room in self._rooms.items() if room.ends > now}


def _code() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(LETTERS))


def _gone() -> RagdemoError:
    return RagdemoError(
        "There is no room with this code. It may have been closed, or have ended after "
        f"{HOURS:.0f} hours. Ask for the code again."
    )
