"""The running top-k: a score and a document packed into one integer that sorts by descending score, then document row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nv_retriever.ragged import Index, ranges, row_offsets
from nv_retriever.search.types import FloatArray, IntArray

Keys = npt.NDArray[np.uint64]
T = TypeVar("T", bound=np.generic)
EMPTY = np.uint64(2**64 - 1)
"""Sorts behind every document."""
_CELLS = 1 << 17
"""Cells of a padded matrix (1 MiB): larger ones are of fresh pages each time, which cost more than their sorting."""


def pack(scores: FloatArray, documents: npt.NDArray[np.integer]) -> Keys:
    """Return sortable keys of finite scores and document rows, any shape."""
    bits = scores.view(np.uint32)
    ascending = bits ^ np.where(bits >> np.uint32(31), np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    return (~ascending).astype(np.uint64) << np.uint64(32) | documents.astype(np.uint64)


def unpack(keys: Keys) -> tuple[IntArray, FloatArray]:
    """Return (documents, scores) of keys; -1 and NaN where they are EMPTY."""
    ascending = ~(keys >> np.uint64(32)).astype(np.uint32)
    bits = ascending ^ np.where(ascending >> np.uint32(31), np.uint32(0x80000000), np.uint32(0xFFFFFFFF))
    empty = keys == EMPTY
    documents = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32).astype(np.int32)
    return np.where(empty, np.int32(-1), documents), np.where(empty, np.float32(np.nan), bits.view(np.float32))


def parts(counts: Index, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of queries, whose padded matrix of (largest count + width) columns stays small, and of their elements."""
    ends = row_offsets(counts)
    stack = [(0, len(counts))]
    while stack:
        low, high = stack.pop()
        columns = int(counts[low:high].max(initial=0)) + width
        if (high - low) * columns <= _CELLS or high - low == 1:
            yield slice(low, high), slice(int(ends[low]), int(ends[high]))
        else:
            middle = (low + high) // 2
            stack += [(middle, high), (low, middle)]


def padded(values: npt.NDArray[T], counts: Index, width: int, empty: T) -> npt.NDArray[T]:
    """Return values that lie by query as a matrix (n_queries, largest count + width), filled up with `empty`."""
    columns = int(counts.max(initial=0)) + width
    matrix = np.full((len(counts), columns), empty, values.dtype)
    _, places = ranges(np.arange(len(counts)) * columns, counts)
    matrix.reshape(-1)[places] = values
    return matrix


def merge(best: Keys, new: Keys, counts: Index) -> None:
    """Merge keys into `best` (n_queries, k), ascending, in place; `new` (p,) lie by query, `counts` (n_queries,) each."""
    k = best.shape[1]
    for queries, elements in parts(counts, k):
        if elements.start < elements.stop:
            matrix = padded(new[elements], counts[queries], k, EMPTY)
            matrix[:, -k:] = best[queries]
            matrix.sort(axis=1)
            best[queries] = matrix[:, :k]


def kth_largest(values: FloatArray, counts: Index, k: int) -> FloatArray:
    """Return the k-th largest of each query's values, -inf where there are fewer; `values` (p,) by query."""
    # Negated: numpy's partition takes ten times as long where many of the smallest values are equal.
    matrix = padded(-values, counts, 0, np.float32(np.inf))
    if matrix.shape[1] < k:
        return np.full(len(counts), -np.inf, np.float32)
    matrix.partition(k - 1, axis=1)
    kth: FloatArray = -matrix[:, k - 1]
    return kth
