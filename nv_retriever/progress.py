"""Progress of long work: a bar on a terminal, throttled log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)
LOG_EVERY_SECONDS = 15.0


class Progress:
    """Counts finished units of one piece of work."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        self._started = self._said = time.monotonic()

    def advance(self, units: int = 1) -> None:
        """Say that `units` more are finished."""
        self.done += units
        now = time.monotonic()
        if now - self._said >= LOG_EVERY_SECONDS:
            self._said = now
            rate = self.done / (now - self._started)
            left = (self.total - self.done) / rate if rate else 0.0
            share = f"{100 * self.done / self.total:.0f} %" if self.total else ""
            logger.info("%s: %s of %s %s %s, %.0f s left", self.what, self.done, self.total, self.unit, share, left)


@contextmanager
def progress(what: str, total: int, unit: str = "items") -> Iterator[Progress]:
    """Yield a counter that shows itself: a rich bar where stderr is a terminal, log lines every 15 s elsewhere."""
    if not sys.stderr.isatty() or logger.getEffectiveLevel() > logging.INFO:
        yield Progress(what, total, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)

        class Shown(Progress):
            def advance(self, units: int = 1) -> None:
                """Count, and move the bar."""
                self.done += units
                bar.advance(task, units)

        yield Shown(what, total, unit)
