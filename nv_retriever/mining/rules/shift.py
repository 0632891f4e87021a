"""Top-K shifted by N: the N best candidates are skipped, whatever their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nv_retriever.mining.rules.base import ALL_KINDS, no_limits
from nv_retriever.search.types import FloatArray, ScoreKind


@dataclass(frozen=True)
class Shift:
    """`topk-shift(N)`: keeps ranks above N. Ranks are raw: they count candidates, not survivors of another filter."""

    n: int
    kinds: ClassVar[frozenset[ScoreKind]] = ALL_KINDS

    @property
    def name(self) -> str:
        """`topk-shift(10)`."""
        return f"topk-shift({self.n})"

    @property
    def min_rank(self) -> int:
        """The first rank that is kept."""
        return self.n + 1

    def limits(self, anchor_scores: FloatArray) -> FloatArray:
        """Return +inf for every sample."""
        return no_limits(anchor_scores)
