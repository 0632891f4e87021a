"""Batches of like length under a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Batch = npt.NDArray[np.int64]


def plan_batches(lengths: Sequence[int], budget: int) -> list[Batch]:
    """Return batches of text numbers, by descending length, each of at most about `budget` tokens."""
    sizes = np.asarray(lengths, np.int64)
    order = np.argsort(-sizes, kind="stable")
    batches, start = [], 0
    while start < len(order):
        count = max(1, budget // max(1, int(sizes[order[start]])))
        batches.append(order[start : start + count])
        start += count
    return batches
