"""Calibrated margins: where this teacher's hidden positives lie below the visible one, and what a margin costs.

A margin is a property of the teacher's score distribution: 95 % of the positive's score removed 84 % of the first 50
candidates with one teacher, 8 % with another. So margins are read off the data: to keep out a given share of the hidden
positives that would be mined, which margin and which percentage does it take, and how many candidates go with them?
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nv_retriever.audit.intervals import Counts
from nv_retriever.audit.ranked import Table, ranked_blocks
from nv_retriever.audit.rows import clean
from nv_retriever.audit.samples import Labelled, Samples
from nv_retriever.audit.tallies import WINDOW
from nv_retriever.mining.rules.percentage import PercPos
from nv_retriever.search.types import ScoreKind

SHARES = (0.25, 0.5, 0.75, 0.9, 0.95)


@dataclass(frozen=True)
class Setting:
    """The setting that keeps out a share of the hidden positives among the first candidates."""

    share: float
    """Share of the hidden positives among the first 50 candidates that it rejects."""
    margin: float
    """For `topk-marginpos`; negative where even candidates above the positive suffice."""
    margin_drop: float
    """Share of the other candidates that this margin rejects with them."""
    percentage: float
    """For `topk-percpos`; NaN where that has no meaning: for logits, and positives that score 0."""
    percentage_drop: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {key: clean(value) for key, value in asdict(self).items()}


def calibrate(samples: Samples, labelled: Labelled, table: Table, kind: ScoreKind) -> list[Setting]:
    """Return the settings that keep out each of SHARES; [] where no hidden positive is among the first candidates."""
    margins: list[list[Counts]] = [[], []]
    percentages: list[list[Counts]] = [[], []]
    for _, some, ranked in ranked_blocks(samples, labelled, table):
        scores = ranked.scores[:, :WINDOW].astype(np.float64)
        anchors = some.scores[:, None].astype(np.float64)
        there = np.isfinite(scores)
        hidden = ranked.hidden[:, :WINDOW]
        with np.errstate(divide="ignore", invalid="ignore"):
            shared = 1 - (anchors - scores) / np.abs(anchors)
        for other in (0, 1):
            mask = there & (hidden == (other == 0))
            margins[other].append((anchors - scores)[mask])
            percentages[other].append(shared[mask & (anchors != 0) & (kind in PercPos.kinds)])
    gaps, other_gaps = (np.concatenate(x) if x else np.empty(0) for x in margins)
    ratios, other_ratios = (np.concatenate(x) if x else np.empty(0) for x in percentages)
    if len(gaps) == 0:
        return []
    return [_setting(share, gaps, other_gaps, ratios, other_ratios) for share in SHARES]


def _setting(share: float, gaps: Counts, other_gaps: Counts, ratios: Counts, other_ratios: Counts) -> Setting:
    """A rule rejects s >= limit: a gap of at most the margin, a ratio of at least the percentage."""
    margin = float(np.quantile(gaps, share, method="inverted_cdf"))
    percentage = -float(np.quantile(-ratios, share, method="inverted_cdf")) if len(ratios) else float("nan")
    return Setting(
        share=share,
        margin=margin,
        margin_drop=float((other_gaps <= margin).mean()) if len(other_gaps) else float("nan"),
        percentage=percentage,
        percentage_drop=float((other_ratios >= percentage).mean()) if len(other_ratios) else float("nan"),
    )
