"""Naive Top-K: every candidate is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nv_retriever.mining.rules.base import ALL_KINDS, no_limits
from nv_retriever.search.types import FloatArray, ScoreKind


@dataclass(frozen=True)
class TopK:
    """`topk`: keeps everything; the baseline whose negatives are often false (paper, section 3.1)."""

    kinds: ClassVar[frozenset[ScoreKind]] = ALL_KINDS
    name: ClassVar[str] = "topk"
    min_rank: ClassVar[int] = 1

    def limits(self, anchor_scores: FloatArray) -> FloatArray:
        """Return +inf for every sample."""
        return no_limits(anchor_scores)
