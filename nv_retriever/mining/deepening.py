"""Threshold-aware search: where the table ends too early, search again strictly below each sample's limit, exactly.

The search knows the limit beforehand, so it returns the k best below it in one pass, however deep they lie; a sample
stays short only when the corpus has no more.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nv_retriever.mining.pool import empty_pool, first_where, is_vetoed
from nv_retriever.mining.types import Pool, Rows
from nv_retriever.search.types import Exclusions, FloatArray, IntArray, Scorer, TopK

_ROWS = 1 << 16
"""Samples in one search."""


def deepen(
    scorer: Scorer,
    exclusions: Exclusions,
    queries: IntArray,
    limits: FloatArray,
    *,
    size: int,
    min_rank: int,
    floor: np.float32,
    vetoed: npt.NDArray[np.int64],
    table_depth: int,
) -> Pool:
    """Return the first `size` survivors of each sample over the whole corpus, (s,) queries and limits.

    Every row comes back full or exhausted. k doubles while vetoed documents take up places.
    """
    pool = empty_pool(len(queries), size)
    pool.table_depth[:] = table_depth
    left: Rows = np.arange(len(queries))
    k = min(size + min_rank - 1, scorer.n_documents)
    while len(left):
        again = []
        for start in range(0, len(left), _ROWS):
            rows = left[start : start + _ROWS]
            found = _search(scorer, exclusions, queries[rows], limits[rows], k)
            done = _fill(pool, rows, found, queries[rows], min_rank, floor, vetoed, scorer.n_documents)
            again.append(rows[~done])
        left = np.concatenate(again)
        k = min(2 * k, scorer.n_documents)
    return pool


def _search(scorer: Scorer, exclusions: Exclusions, queries: IntArray, limits: FloatArray, k: int) -> TopK:
    """Search once for samples of the same query and limit: under an absolute rule all positives of a query share it."""
    keys = queries.astype(np.int64) << 32 | limits.view(np.uint32).astype(np.int64)
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    found = scorer.search(queries[first], k, exclusions.take(queries[first]), limits[first])
    return TopK(found.documents[which], found.scores[which], found.above[which])


def _fill(
    pool: Pool,
    rows: Rows,
    found: TopK,
    queries: IntArray,
    min_rank: int,
    floor: np.float32,
    vetoed: npt.NDArray[np.int64],
    n_documents: int,
) -> npt.NDArray[np.bool_]:
    """Write survivors into the pool and return which samples are finished."""
    width = found.documents.shape[1]
    ranks = found.above[:, None] + np.arange(1, width + 1)
    keep = (found.documents >= 0) & (ranks >= min_rank) & (found.scores >= floor)
    keep &= ~is_vetoed(queries[:, None], found.documents, vetoed, n_documents)
    columns, exists = first_where(keep, pool.documents.shape[1])
    pool.documents[rows] = np.where(exists, np.take_along_axis(found.documents, columns, 1), np.int32(-1))
    pool.scores[rows] = np.where(exists, np.take_along_axis(found.scores, columns, 1), np.float32(np.nan))
    pool.ranks[rows] = np.where(exists, np.take_along_axis(ranks, columns, 1), 0)
    full = exists[:, -1]
    length = (found.documents >= 0).sum(axis=1)
    ended = (length < width) | (width >= n_documents)
    if width:
        ended |= found.scores[:, -1] < floor
    pool.exhausted[rows] = ended & ~full
    pool.depth[rows] = np.where(full, pool.ranks[rows, -1], found.above + length)
    done: npt.NDArray[np.bool_] = full | ended
    return done
