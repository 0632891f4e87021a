"""The k best of one query's scores, exactly: exclusions, a strict limit, ties by document row."""

from __future__ import annotations

import numpy as np

from nv_retriever.ragged import Index
from nv_retriever.search.types import FloatArray, TopK


def fill_row(result: TopK, row: int, documents: Index, scores: FloatArray, limit: float | None) -> None:
    """Write the best of one query's allowed documents (n,), ascending, with scores (n,) into a row of `result`.

    Scores that are not finite are no candidates. With a limit only scores strictly below it are written, and those at or
    above it are counted in `above`.
    """
    finite = np.isfinite(scores)
    documents, scores = documents[finite], scores[finite]
    if limit is not None:
        below = scores < np.float32(limit)
        result.above[row] = len(scores) - int(below.sum())
        documents, scores = documents[below], scores[below]
    k = result.documents.shape[1]
    if 0 < k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        better = np.flatnonzero(scores > least)
        # `documents` ascend, so the first ties are those with the smallest rows.
        chosen = np.concatenate([better, np.flatnonzero(scores == least)[: k - len(better)]])
        documents, scores = documents[chosen], scores[chosen]
    order = np.lexsort((documents, -scores))[:k]
    result.documents[row, : len(order)], result.scores[row, : len(order)] = documents[order], scores[order]
