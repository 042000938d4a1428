"""How long a batch takes, learned from those before it."""

from __future__ import annotations

FORGET = 0.9  # weight of each earlier batch against the one after it


class Pace:
    """seconds = start + each * rows, by least squares over past batches, older ones counting less.

    Two numbers and not one mean: a batch of eight takes far less than four batches of two.
    """

    def __init__(self) -> None:
        # decaying sums of 1, x, x^2, y, xy; the first batch outweighs this guess at once
        self._n = self._x = self._xx = self._y = self._xy = 0.0
        self._guess = 1.0

    def learn(self, rows: int, seconds: float) -> None:
        now = (1.0, rows, rows * rows, seconds, rows * seconds)
        before = (self._n, self._x, self._xx, self._y, self._xy)
        self._n, self._x, self._xx, self._y, self._xy = (
            FORGET * old + new for old, new in zip(before, now, strict=True)
        )

    def batch(self, rows: int) -> float:
        """Seconds a batch of so many rows takes, about."""
        if not self._n:
            return self._guess
        spread = self._n * self._xx - self._x**2
        each = 0.0
        if spread > 1e-6 * self._n**2:
            each = (self._n * self._xy - self._x * self._y) / spread
        each = max(0.0, each)
        start = max(0.0, (self._y - each * self._x) / self._n)
        if each == 0.0 and rows * self._n > 2 * self._x:
            # never seen one so large: half of it is taken to grow with the rows
            return start * (0.5 + 0.5 * rows * self._n / self._x)
        return start + each * rows
