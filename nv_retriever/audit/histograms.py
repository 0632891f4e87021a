"""Score histograms of positives, mined negatives, other kept candidates and rejected ones: is there a valley to cut in?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.audit.intervals import Counts
from nv_retriever.audit.ranked import Table, blocks
from nv_retriever.audit.samples import Samples
from nv_retriever.mining.rules.base import Rule
from nv_retriever.search.types import FloatArray


@dataclass(frozen=True)
class Histograms:
    """Counts over shared bins, for one teacher and one rule."""

    rule: str
    edges: Counts
    """(bins + 1,)."""
    counts: dict[str, npt.NDArray[np.int64]]
    """positives · mined · kept (below the limit, not mined) · rejected."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        counts = {name: values.tolist() for name, values in self.counts.items()}
        return {"rule": self.rule, "edges": self.edges.tolist(), "counts": counts}


def score_histograms(samples: Samples, table: Table, rule: Rule, negatives: int, bins: int) -> Histograms:
    """Return the histograms of every sample's positive and table candidates under a rule, all labels known."""
    limits = table.limits(rule, samples)
    edges = _edges([table.scores[np.unique(samples.queries)], samples.scores], bins)
    counts = {name: np.zeros(bins, np.int64) for name in ("positives", "mined", "kept", "rejected")}
    counts["positives"] += _count(samples.scores, edges)
    ranks = np.arange(1, table.documents.shape[1] + 1)
    for part in blocks(len(samples), table.documents.shape[1]):
        scores = table.scores[samples.queries[part]]
        below = (scores < limits[part][:, None]) & (ranks >= rule.min_rank)
        mined = below & (np.cumsum(below, axis=1) <= negatives)
        counts["mined"] += _count(scores[mined], edges)
        counts["kept"] += _count(scores[below & ~mined], edges)
        counts["rejected"] += _count(scores[~below], edges)
    return Histograms(rule.name, edges, counts)


def _edges(arrays: list[FloatArray], bins: int) -> Counts:
    finite = np.concatenate([array[np.isfinite(array)] for array in arrays])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


def _count(scores: FloatArray, edges: Counts) -> npt.NDArray[np.int64]:
    finite = scores[np.isfinite(scores)].astype(np.float64)
    return np.histogram(finite, bins=edges)[0].astype(np.int64)
