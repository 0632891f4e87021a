"""TopK-Abs: one threshold for all queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nv_retriever.mining.naming import number_text
from nv_retriever.mining.rules.base import no_limits
from nv_retriever.search.types import FloatArray, ScoreKind


@dataclass(frozen=True)
class Absolute:
    """`topk-abs(t)`: keeps s < t. Only cosines share a scale over queries and teachers; elsewhere use a percentile."""

    threshold: float
    kinds: ClassVar[frozenset[ScoreKind]] = frozenset({"cosine"})
    min_rank: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`topk-abs(0.7)`."""
        return f"topk-abs({number_text(self.threshold)})"

    def limits(self, anchor_scores: FloatArray) -> FloatArray:
        """Return t for every sample."""
        return np.minimum(no_limits(anchor_scores), np.float32(self.threshold))
