"""Which of the survivors become negatives: the hardest, a softmax draw, or the hardest and a draw (paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import InputError
from nv_retriever.mining.naming import read_count, split_name
from nv_retriever.mining.randomness import Keys, gumbel
from nv_retriever.search.types import FloatArray

VALID = "one of top(N), sample(N, of=K), top1+sample(N, of=K) with 1 <= N <= K"
Randoms = Callable[[], Keys]
"""Gives the hashes of (seed, query, document), (n, depth) uint64; called only by a selection that draws."""


@dataclass(frozen=True)
class Selection:
    """How many negatives, from how many survivors, and whether the hardest is always among them."""

    count: int
    """Negatives per sample."""
    window: int | None = None
    """Survivors that a draw looks at; None takes the best `count` without a draw."""
    keep_first: bool = False
    """Whether the hardest survivor comes first, without a draw."""

    @property
    def name(self) -> str:
        """The text that `parse_selection` reads back."""
        if self.window is None:
            return f"top({self.count})"
        return f"{'top1+' if self.keep_first else ''}sample({self.count}, of={self.window})"

    @property
    def depth(self) -> int:
        """Survivors that have to be known before the choice."""
        return self.count if self.window is None else self.window

    def order(self, scores: FloatArray, randoms: Randoms) -> npt.NDArray[np.intp] | None:
        """Return the columns in the order of preference, (n, depth) -> (n, depth), missing ones last; None = as they are.

        `scores` (n, depth) float32 are the survivors', by rank, NaN where there are fewer. A draw is the order of
        score + Gumbel(hash): n of k without replacement with probability softmax of the scores (Yellott 1977).
        """
        if self.window is None:
            return None
        keys = scores.astype(np.float64) + gumbel(randoms())
        if self.keep_first:
            keys[:, 0] = np.where(np.isnan(keys[:, 0]), np.nan, np.inf)
        return np.argsort(-keys, axis=1, kind="stable")  # NaN sorts last


def parse_selection(text: str) -> Selection:
    """Return the selection with this name; raises InputError that lists the valid ones.

    >>> parse_selection("top1+sample(4,of=10)").name
    'top1+sample(4, of=10)'
    """
    name, arguments = split_name(text, "selection", VALID)
    if name == "top" and len(arguments) == 1:
        return Selection(read_count(arguments[0], "selection", VALID))
    if name not in ("sample", "top1+sample") or len(arguments) != 2 or not arguments[1].startswith("of="):
        raise InputError("selection", VALID, repr(text))
    count = read_count(arguments[0], "selection", VALID)
    window = read_count(arguments[1][3:].strip(), "selection", VALID)
    if count > window:
        raise InputError("selection", VALID, repr(text))
    return Selection(count, window, keep_first=name == "top1+sample")


def with_count(selection: Selection, count: int) -> Selection:
    """Return the selection with another number of negatives; a window that is too small grows to it."""
    window = None if selection.window is None else max(selection.window, count)
    return Selection(count, window, selection.keep_first)
