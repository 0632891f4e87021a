"""A threshold at a percentile of the teacher's own positive scores: TopK-Abs without a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nv_retriever.mining.naming import number_text
from nv_retriever.mining.rules.base import ALL_KINDS, no_limits
from nv_retriever.search.types import FloatArray, ScoreKind


@dataclass(frozen=True)
class Percentile:
    """`topk-percentile(p)`: keeps s < the p-quantile of the run's anchor scores, and s < s+.

    The quantile is an anchor's own score (inverted distribution function), so that a monotone change of the teacher's
    scores changes no decision: it means the same for cosines, dot products, BM25 and logits. Not in the paper.
    """

    quantile: float
    kinds: ClassVar[frozenset[ScoreKind]] = ALL_KINDS
    min_rank: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`topk-percentile(0.25)`."""
        return f"topk-percentile({number_text(self.quantile)})"

    def limits(self, anchor_scores: FloatArray) -> FloatArray:
        """Return min(quantile, s+) for every sample."""
        finite = anchor_scores[np.isfinite(anchor_scores)]
        if not len(finite):
            return no_limits(anchor_scores)
        threshold = np.quantile(finite, self.quantile, method="inverted_cdf")
        return np.minimum(anchor_scores, np.float32(threshold)).astype(np.float32)
