"""The running top-k: a score and a document packed into one integer that sorts by descending score, then document row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nv_retriever.search.types import FloatArray, IntArray

Keys = npt.NDArray[np.uint64]
Index = npt.NDArray[np.int64]
EMPTY = np.uint64(2**64 - 1)
"""Sorts behind every document."""
_CELLS = 1 << 21
"""Cells of a padded matrix (16 MiB)."""


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


def places(starts: Index, counts: Index) -> Index:
    """Return each element's place within its query, for elements that lie by query."""
    return np.arange(int(counts.sum())) - np.repeat(starts, counts)


def parts(counts: Index, width: int) -> list[slice]:
    """Return slices of queries whose padded matrix of (largest count + width) columns stays small."""
    found, stack = [], [(0, len(counts))]
    while stack:
        low, high = stack.pop()
        columns = int(counts[low:high].max(initial=0)) + width
        if (high - low) * columns <= _CELLS or high - low == 1:
            found.append(slice(low, high))
        else:
            middle = (low + high) // 2
            stack += [(middle, high), (low, middle)]
    return found


def merge(best: Keys, new: Keys, counts: Index) -> None:
    """Merge keys into `best` (n_queries, k), ascending, in place; `new` (p,) lie by query, `counts` (n_queries,) each."""
    k = best.shape[1]
    starts = np.cumsum(counts) - counts
    for part in parts(counts, k):
        some = counts[part]
        total, width = int(some.sum()), int(some.max(initial=0))
        if not total:
            continue
        matrix = np.full((len(some), width + k), EMPTY)
        matrix[:, width:] = best[part]
        first = int(starts[part.start])
        rows = np.repeat(np.arange(len(some)) * (width + k), some)
        matrix.reshape(-1)[rows + places(starts[part] - first, some)] = new[first : first + total]
        matrix.sort(axis=1)
        best[part] = matrix[:, :k]


def kth_largest(values: FloatArray, counts: Index, k: int) -> FloatArray:
    """Return the k-th largest of each query's values, -inf where there are fewer; `values` (p,) by query."""
    # Negated: numpy's partition takes ten times as long where many of the smallest values are equal.
    result = np.full(len(counts), -np.inf, np.float32)
    starts = np.cumsum(counts) - counts
    for part in parts(counts, 0):
        some = counts[part]
        width = int(some.max(initial=0))
        if width < k:
            continue
        matrix = np.full((len(some), width), np.inf, np.float32)
        first = int(starts[part.start])
        rows = np.repeat(np.arange(len(some)) * width, some)
        matrix.reshape(-1)[rows + places(starts[part] - first, some)] = -values[first : first + int(some.sum())]
        matrix.partition(k - 1, axis=1)
        result[part] = -matrix[:, k - 1]
    return result
