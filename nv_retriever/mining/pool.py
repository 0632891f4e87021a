"""The first survivors of the filter, read from a candidate table.

A table's rows are sorted, so the candidates below a limit start at a column that a binary search finds: no mask over
all candidates is ever built, except for queries in which single documents were vetoed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nv_retriever.mining.types import BoolArray, Pool, Rows, Wanted
from nv_retriever.search.types import FloatArray, IntArray

_CHUNK = 8192
"""Samples at once: what the processor's second-level cache holds."""


def count_prefix(values: FloatArray, rows: Rows, limits: FloatArray) -> npt.NDArray[np.intp]:
    """Return how many leading values of each row are >= its limit, (n_rows, k), (n,), (n,) -> (n,).

    Rows descend and may end in NaN. A binary search in floor(log2 k) + 1 vectorised steps.
    """
    width = values.shape[1]
    flat, base = values.reshape(-1), rows * width - 1
    counts = np.zeros(len(rows), np.intp)
    step = 1 << max(width.bit_length() - 1, 0)
    while step and width:
        trial = counts + step
        inside = np.minimum(trial, width)
        ok = (flat.take(base + inside) >= limits) & (trial <= width)
        counts = np.where(ok, trial, counts)
        step >>= 1
    return counts


def first_where(mask: BoolArray, size: int) -> tuple[npt.NDArray[np.intp], BoolArray]:
    """Return the columns of the first `size` True of each row and whether they exist, (s, w) -> two (s, size)."""
    order = np.argsort(~mask, axis=1, kind="stable")[:, :size]
    found = np.take_along_axis(mask, order, axis=1)
    missing = size - order.shape[1]
    if missing > 0:
        order = np.pad(order, ((0, 0), (0, missing)))
        found = np.pad(found, ((0, 0), (0, missing)))
    return order, found


def read_pool(documents: IntArray, scores: FloatArray, queries: IntArray, limits: FloatArray, wanted: Wanted) -> Pool:
    """Return the survivors that are wanted of each sample, as far as the table holds them.

    `documents`, `scores` (n_queries, k); `queries`, `limits` (s,). `exhausted` says that the table's row ends where the
    corpus (or the floor) does.
    """
    pool = empty_pool(len(queries), wanted.size)
    vetoed = np.unique(wanted.vetoed // wanted.n_documents)
    touched = np.isin(queries, vetoed) if len(vetoed) else np.zeros(len(queries), bool)
    for start in range(0, len(queries), _CHUNK):
        part = slice(start, start + _CHUNK)
        _read_sorted(pool, part, documents, scores, queries[part].astype(np.intp), limits[part], wanted)
    for start in range(0, len(queries), _CHUNK):
        rows = start + np.flatnonzero(touched[start : start + _CHUNK])
        if len(rows) and documents.shape[1]:
            _read_masked(pool, rows, documents, scores, queries[rows], limits[rows], wanted)
    _set_ends(pool, documents, scores, queries.astype(np.intp), wanted.floor)
    return pool


def empty_pool(n: int, size: int) -> Pool:
    """Return a pool without survivors."""
    return Pool(
        documents=np.full((n, size), -1, np.int32),
        scores=np.full((n, size), np.nan, np.float32),
        ranks=np.zeros((n, size), np.int64),
        exhausted=np.zeros(n, bool),
        depth=np.zeros(n, np.int64),
        table_depth=np.full(n, np.iinfo(np.int64).max),
    )


def _read_sorted(
    pool: Pool,
    part: slice,
    documents: IntArray,
    scores: FloatArray,
    rows: Rows,
    limits: FloatArray,
    wanted: Wanted,
) -> None:
    """Read samples of which nothing is vetoed: survivors are neighbours in their row, from a column on."""
    width = documents.shape[1]
    start = np.maximum(count_prefix(scores, rows, limits), wanted.min_rank - 1)
    columns = start[:, None] + np.arange(wanted.size)
    flat = np.minimum(columns, width - 1) + (rows * width)[:, None]
    found = documents.reshape(-1).take(flat) if width else np.full(columns.shape, -1, np.int32)
    values = scores.reshape(-1).take(flat) if width else np.full(columns.shape, np.nan, np.float32)
    valid = (columns < width) & (found >= 0) & (values >= wanted.floor)
    pool.documents[part] = np.where(valid, found, np.int32(-1))
    pool.scores[part] = np.where(valid, values, np.float32(np.nan))
    pool.ranks[part] = np.where(valid, columns + 1, 0)


def _read_masked(
    pool: Pool,
    at: Rows,
    documents: IntArray,
    scores: FloatArray,
    queries: IntArray,
    limits: FloatArray,
    wanted: Wanted,
) -> None:
    """Read samples of queries in which documents are vetoed."""
    table, values = documents[queries], scores[queries]
    keep = (table >= 0) & (values < limits[:, None]) & (values >= wanted.floor)
    keep &= np.arange(table.shape[1]) >= wanted.min_rank - 1
    keep &= ~wanted.is_vetoed(queries[:, None], table)
    columns, found = first_where(keep, wanted.size)
    pool.documents[at] = np.where(found, np.take_along_axis(table, columns, 1), np.int32(-1))
    pool.scores[at] = np.where(found, np.take_along_axis(values, columns, 1), np.float32(np.nan))
    pool.ranks[at] = np.where(found, columns + 1, 0)


def _set_ends(pool: Pool, documents: IntArray, scores: FloatArray, rows: Rows, floor: np.float32) -> None:
    """Set depth and exhausted: a full pool was looked at down to its last rank, a short one to the end of its row."""
    pool.depth[:] = pool.ranks[:, -1]
    short = np.flatnonzero(pool.documents[:, -1] < 0)
    if not len(short):
        return
    some = rows[short]
    length = count_prefix(scores, some, np.full(len(some), -np.inf, np.float32))
    pool.depth[short] = length
    width = documents.shape[1]
    below = scores[some, width - 1] < floor if width else np.zeros(len(some), bool)
    pool.exhausted[short] = (length < width) | below
