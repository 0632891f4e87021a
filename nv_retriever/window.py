"""How much of a long work is committed at once: what a kill may cost, and how often progress is seen."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 20.0
"""Of a window."""


class WindowSize:
    """How many units take about SECONDS, by the windows so far; nothing but time may depend on it."""

    def __init__(self, first: int, fewest: int, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the units of the first window and the bounds of the others; the first one starts now."""
        self.units, self.fewest, self.most, self._clock, self._since = first, fewest, most, clock, clock()

    def measure(self, units: int) -> None:
        """Say that a window of so many units is done; one is at most four times as large, or small, as the last."""
        now = self._clock()
        factor = SECONDS * units / self.units / max(now - self._since, 1e-3)
        self._since = now
        self.units = int(min(max(self.units * min(max(factor, 0.25), 4.0), self.fewest), self.most))
