"""Threshold-aware search: where the table ends too early, search again strictly below each sample's limit, exactly.

The search knows the limit beforehand, so it returns the k best below it in one pass, however deep they lie; a sample
stays short only when the corpus has no more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nv_retriever.mining.pool import empty_pool, first_where
from nv_retriever.mining.types import BoolArray, Pool, Rows, Wanted
from nv_retriever.search.types import Exclusions, FloatArray, IntArray, Scorer, TopK

_ROWS = 1 << 16
_CELLS = 1 << 22
"""Places of all samples in one search: about 100 MB."""


def search_deeper(left: Rows, k: int, n_documents: int, search: Callable[[Rows, int], BoolArray]) -> None:
    """Call `search` for samples, as many at once as fit into memory, and again with twice the k for those it leaves open.

    `search(rows, k)` returns which of the rows are finished; with k = n_documents all are.
    """
    while len(left):
        step = max(1, min(_ROWS, _CELLS // max(k, 1)))
        parts = [left[start : start + step] for start in range(0, len(left), step)]
        left = np.concatenate([rows[~search(rows, k)] for rows in parts])
        k = min(2 * k, n_documents)


def deepen(
    scorer: Scorer, exclusions: Exclusions, queries: IntArray, limits: FloatArray, wanted: Wanted, table_depth: int = 0
) -> Pool:
    """Return the survivors that are wanted of each sample over the whole corpus, (s,) queries and limits.

    Every row comes back full or exhausted. k doubles while vetoed documents take up places.
    """
    pool = empty_pool(len(queries), wanted.size)
    pool.table_depth[:] = table_depth

    def search(rows: Rows, k: int) -> BoolArray:
        """Fill some rows of the pool."""
        found = _search(scorer, exclusions, queries[rows], limits[rows], k)
        return _fill(pool, rows, found, queries[rows], wanted)

    k = min(wanted.size + wanted.min_rank - 1, scorer.n_documents)
    search_deeper(np.arange(len(queries)), k, scorer.n_documents, search)
    return pool


def _search(scorer: Scorer, exclusions: Exclusions, queries: IntArray, limits: FloatArray, k: int) -> TopK:
    """Search once for samples of the same query and limit: under an absolute rule all positives of a query share it."""
    keys = queries.astype(np.int64) << 32 | limits.view(np.uint32).astype(np.int64)
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    found = scorer.search(queries[first], k, exclusions.take(queries[first]), limits[first])
    return TopK(found.documents[which], found.scores[which], found.above[which])


def _fill(pool: Pool, rows: Rows, found: TopK, queries: IntArray, wanted: Wanted) -> BoolArray:
    """Write survivors into the pool and return which samples are finished."""
    width = found.documents.shape[1]
    ranks = found.above[:, None] + np.arange(1, width + 1)
    keep = (found.documents >= 0) & (ranks >= wanted.min_rank) & (found.scores >= wanted.floor)
    keep &= ~wanted.is_vetoed(queries[:, None], found.documents)
    columns, exists = first_where(keep, wanted.size)
    pool.documents[rows] = np.where(exists, np.take_along_axis(found.documents, columns, 1), np.int32(-1))
    pool.scores[rows] = np.where(exists, np.take_along_axis(found.scores, columns, 1), np.float32(np.nan))
    pool.ranks[rows] = np.where(exists, np.take_along_axis(ranks, columns, 1), 0)
    full = exists[:, -1]
    length = (found.documents >= 0).sum(axis=1)
    ended = (length < width) | (width >= wanted.n_documents)
    if width:
        ended |= found.scores[:, -1] < wanted.floor
    pool.exhausted[rows] = ended & ~full
    pool.depth[rows] = np.where(full, pool.ranks[rows, -1], found.above + length)
    done: BoolArray = full | ended
    return done
