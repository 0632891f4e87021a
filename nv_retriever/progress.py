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
    """Counts finished units of one piece of work; a total of 0 is not known."""

    def __init__(self, what: str, total: int, unit: str, before: int) -> None:
        self.what, self.total, self.unit, self.done, self.before = what, total, unit, before, before
        self._started = self._said = time.monotonic()

    def advance(self, units: int = 1) -> None:
        """Say that `units` more are finished."""
        self.done += units
        now = time.monotonic()
        if now - self._said >= LOG_EVERY_SECONDS:
            self._said = now
            self._say(now - self._started)

    def _say(self, seconds: float) -> None:
        if not self.total:
            logger.info("%s: %s %s", self.what, self.done, self.unit)
            return
        rate = (self.done - self.before) / seconds
        left = (self.total - self.done) / rate if rate else 0.0
        share = f"{100 * self.done / self.total:.0f} %"
        logger.info("%s: %s of %s %s %s, %.0f s left", self.what, self.done, self.total, self.unit, share, left)


@contextmanager
def progress(what: str, total: int, unit: str, before: int = 0) -> Iterator[Progress]:
    """Yield a counter that shows itself: a rich bar where stderr is a terminal, log lines every 15 s elsewhere.

    `total` is 0 where it is not known, `before` is what an earlier run has finished.
    """
    if not sys.stderr.isatty() or logger.getEffectiveLevel() > logging.INFO:
        yield Progress(what, total, unit, before)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total or None, completed=before)

        class Shown(Progress):
            def advance(self, units: int = 1) -> None:
                """Count, and move the bar."""
                self.done += units
                bar.advance(task, units)

        yield Shown(what, total, unit, before)
