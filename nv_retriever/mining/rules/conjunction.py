"""Several rules at once: a candidate is kept iff all of them keep it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from nv_retriever.mining.rules.base import Rule
from nv_retriever.search.types import FloatArray, ScoreKind


@dataclass(frozen=True)
class Conjunction:
    """`topk-shift(10)&topk-percpos(0.95)`: the lowest limit and the last first rank of its parts."""

    parts: tuple[Rule, ...]

    @property
    def kinds(self) -> frozenset[ScoreKind]:
        """The kinds that every part has a meaning for."""
        return frozenset.intersection(*(part.kinds for part in self.parts))

    @property
    def name(self) -> str:
        """The parts' names, joined by `&`."""
        return "&".join(part.name for part in self.parts)

    @property
    def min_rank(self) -> int:
        """The first rank that every part keeps."""
        return max(part.min_rank for part in self.parts)

    def limits(self, anchor_scores: FloatArray) -> FloatArray:
        """Return the lowest limit of the parts."""
        return reduce(np.minimum, (part.limits(anchor_scores) for part in self.parts))
