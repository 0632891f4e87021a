"""What a rule is: an upper limit for the score of each sample's candidates, and a first rank."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from nv_retriever.errors import InputError
from nv_retriever.search.types import FloatArray, ScoreKind

ALL_KINDS: frozenset[ScoreKind] = frozenset({"cosine", "dot", "bm25", "logit"})


class Rule(Protocol):
    """A filter of the paper, table 1: a candidate d is kept iff s(q, d) < limit and its rank is at least `min_rank`."""

    @property
    def kinds(self) -> frozenset[ScoreKind]:
        """The score kinds that the rule has a meaning for."""
        ...

    @property
    def name(self) -> str:
        """The text that `parse_rule` reads back."""
        ...

    @property
    def min_rank(self) -> int:
        """The best rank that is kept, counted from 1 over all candidates."""
        ...

    def limits(self, anchor_scores: FloatArray) -> FloatArray:
        """Return each sample's limit, (n,) -> (n,) float32, +inf where there is none, NaN where the anchor is NaN.

        `anchor_scores` holds all samples of a run: one rule (percentile) looks at their distribution.
        """
        ...


def check_kind(rule: Rule, kind: ScoreKind, teacher: str) -> None:
    """Raise InputError when a rule has no meaning for a teacher's scores."""
    if kind not in rule.kinds:
        raise InputError(
            f"rule {rule.name}",
            f"scores of kind {' or '.join(sorted(rule.kinds))}",
            f"{kind} scores of {teacher}",
            "topk-percentile(p) and topk-shift(n) have a meaning for every kind",
        )


def no_limits(anchor_scores: FloatArray) -> FloatArray:
    """Return +inf for every sample (NaN for a NaN anchor)."""
    return np.where(np.isnan(anchor_scores), np.float32(np.nan), np.float32(np.inf)).astype(np.float32)
