"""TopK-PercPos: a percentage of the positive's score; the paper's best rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nv_retriever.mining.naming import number_text
from nv_retriever.search.types import FloatArray, ScoreKind


@dataclass(frozen=True)
class PercPos:
    """`topk-percpos(p)`: keeps s < s+ - (1 - p)·|s+|, which is the paper's p·s+ where s+ is positive.

    With a negative s+, p·s+ would lie above the positive. A ratio needs a scale with a zero: logits have none.
    """

    percentage: float
    kinds: ClassVar[frozenset[ScoreKind]] = frozenset({"cosine", "dot", "bm25"})
    min_rank: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`topk-percpos(0.95)`."""
        return f"topk-percpos({number_text(self.percentage)})"

    def limits(self, anchor_scores: FloatArray) -> FloatArray:
        """Return s+ - (1 - p)·|s+|, computed in float64 and rounded once."""
        anchors = anchor_scores.astype(np.float64)
        return (anchors - (1.0 - self.percentage) * np.abs(anchors)).astype(np.float32)
