"""What a rule compares a candidate with, where a query has several positives."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from nv_retriever.search.types import FloatArray, IntArray

Anchor = Literal["each", "min", "max", "mean"]


def _runs(queries: IntArray) -> npt.NDArray[np.intp]:
    """Return where each query's samples start, for ascending queries."""
    return np.flatnonzero(np.r_[True, queries[1:] != queries[:-1]]) if len(queries) else np.empty(0, np.intp)


def anchor_scores(queries: IntArray, positive_scores: FloatArray, anchor: Anchor) -> FloatArray:
    """Return what each sample is compared with, (n,) ascending query rows and (n,) float32 -> (n,) float32.

    `each`: the sample's own positive, as in the paper, whose unit is (query, positive). `min`, `max`, `mean`: over the
    query's positives with a score; the mean is taken in float64. NaN where no positive has one.
    """
    if anchor == "each" or not len(queries):
        return positive_scores
    starts = _runs(queries)
    lengths = np.diff(np.r_[starts, len(queries)])
    scored = ~np.isnan(positive_scores)
    if anchor == "mean":
        sums = np.add.reduceat(np.where(scored, positive_scores, 0).astype(np.float64), starts)
        with np.errstate(invalid="ignore"):
            values = sums / np.add.reduceat(scored.astype(np.int64), starts)
    else:
        values = (np.fmin if anchor == "min" else np.fmax).reduceat(positive_scores, starts)
    return np.repeat(values.astype(np.float32), lengths)


def outlier_positives(queries: IntArray, positive_scores: FloatArray) -> npt.NDArray[np.intp]:
    """Return the samples whose positive scores far below its query's other positives: labels worth a second look.

    Far: more than three robust standard deviations (1.4826 · median absolute deviation over the split) below the
    median of its query. Under `anchor=min` such a positive starves its query, under `max` it lets its neighbours in.
    """
    if not len(queries):
        return np.empty(0, np.intp)
    order = np.lexsort((positive_scores, queries))  # NaN last within its query
    starts = _runs(queries)
    counts = np.add.reduceat((~np.isnan(positive_scores)).astype(np.int64), starts)
    ordered = positive_scores[order].astype(np.float64)
    middle = starts + np.maximum(counts - 1, 0) // 2, starts + np.maximum(counts, 1) // 2
    medians = (ordered[middle[0]] + ordered[np.minimum(middle[1], len(ordered) - 1)]) / 2
    lengths = np.diff(np.r_[starts, len(queries)])
    several = np.repeat(counts > 1, lengths)
    gaps = positive_scores - np.repeat(medians, lengths)
    gaps = np.where(several & np.isfinite(gaps), gaps, np.nan)
    if np.isnan(gaps).all():
        return np.empty(0, np.intp)
    deviation = 1.4826 * np.nanmedian(np.abs(gaps))
    return np.flatnonzero(gaps < -max(3 * deviation, 1e-6))
