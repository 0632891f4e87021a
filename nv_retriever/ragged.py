"""Ragged rows: ranges of different lengths that lie one after the other in flat arrays, and the join of two columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]


def row_offsets(counts: npt.NDArray[Any]) -> Index:
    """Return where each row begins, and where the last one ends, (n,) -> (n + 1,); a mask counts as zeros and ones.

    >>> row_offsets(np.array([2, 0, 1])).tolist()
    [0, 2, 2, 3]
    """
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def owners(offsets: Index) -> npt.NDArray[np.int32]:
    """Return the row of each element, (n + 1,) -> (total,) int32.

    >>> owners(np.array([0, 2, 2, 3])).tolist()
    [0, 0, 2]
    """
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))


def ranges(starts: Index, counts: Index) -> tuple[Index, Index]:
    """Return (which range, position) of every element of the ranges [start, start + count), (n,) each -> (total,) each.

    >>> [column.tolist() for column in ranges(np.array([7, 0, 3]), np.array([2, 0, 1]))]
    [[0, 0, 2], [7, 8, 3]]
    """
    owner = np.repeat(np.arange(len(starts)), counts)
    return owner, np.arange(len(owner)) + np.repeat(starts - (np.cumsum(counts) - counts), counts)


def join(wanted: npt.NDArray[Any], there: npt.NDArray[Any]) -> tuple[Index, Index]:
    """Return (row of `wanted`, row of `there`) of every pair of equal values, ascending, (n,) and (m,) -> (total,) each.

    >>> [column.tolist() for column in join(np.array([5, 4]), np.array([4, 5, 5]))]
    [[0, 0, 1], [1, 2, 0]]
    """
    order = np.argsort(there, kind="stable")
    ordered = there[order]
    starts = np.searchsorted(ordered, wanted, side="left")
    owner, inside = ranges(starts, np.searchsorted(ordered, wanted, side="right") - starts)
    return owner, order[inside]
