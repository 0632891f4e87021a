"""TopK-MarginPos: a fixed distance below the positive's score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nv_retriever.mining.naming import number_text
from nv_retriever.mining.rules.base import ALL_KINDS
from nv_retriever.search.types import FloatArray, ScoreKind


@dataclass(frozen=True)
class MarginPos:
    """`topk-marginpos(m)`: keeps s < s+ - m. A difference has a meaning on every scale, in units of that scale."""

    margin: float
    kinds: ClassVar[frozenset[ScoreKind]] = ALL_KINDS
    min_rank: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`topk-marginpos(0.05)`."""
        return f"topk-marginpos({number_text(self.margin)})"

    def limits(self, anchor_scores: FloatArray) -> FloatArray:
        """Return s+ - m, computed in float64 and rounded once."""
        return (anchor_scores.astype(np.float64) - self.margin).astype(np.float32)
