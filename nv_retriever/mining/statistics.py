"""What a mining run says about itself: counts, shares and distances, gathered block by block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from nv_retriever.mining.anchor import outlier_positives
from nv_retriever.mining.pool import count_prefix
from nv_retriever.mining.relabelled import Relabelled
from nv_retriever.mining.types import Choice, MiningPlan, Samples, ShortReason, Teacher, TripleReason

_WINDOW = 50
"""Best candidates over which a teacher's drop rate is taken."""
_SHOWN = 20


class Statistics:
    """Counts of a run."""

    def __init__(self) -> None:
        self.triples = self.short = self.deepest = self.relabelled = 0
        self.reasons: Counter[str] = Counter()
        self.short_reasons: Counter[str] = Counter()
        self._gaps: dict[int, tuple[int, float]] = {}
        self._ranks = (0, 0)

    def add(self, start: int, choice: Choice, teachers: Sequence[Teacher]) -> None:
        """Count the choice of the samples from `start` on."""
        row, position = np.nonzero(choice.documents >= 0)
        self.triples += len(row)
        for reason, number in zip(*np.unique(choice.reasons[row, position], return_counts=True), strict=True):
            self.reasons[TripleReason(reason).text] += int(number)
        short = choice.short[choice.short != ShortReason.NONE]
        self.short += len(short)
        for reason, number in zip(*np.unique(short, return_counts=True), strict=True):
            self.short_reasons[ShortReason(reason).text] += int(number)
        ranks = choice.ranks[row, position]
        self.deepest = max(self.deepest, int(ranks.max(initial=0)))
        self._ranks = self._ranks[0] + int((ranks > 0).sum()), self._ranks[1] + int(ranks.sum())
        by = choice.teachers[row, position]
        for number, teacher in enumerate(teachers):
            mine = by == number
            gaps = teacher.positive_scores[start + row[mine]].astype(np.float64) - choice.scores[row, position][mine]
            count, total = self._gaps.get(number, (0, 0.0))
            self._gaps[number] = count + len(gaps), total + float(gaps.sum())

    def add_relabelled(self, added: Relabelled) -> None:
        """Count the samples that a judge added."""
        self.relabelled += int((added.choice.found > 0).sum())
        self.add(0, added.choice, added.teachers)

    def summary(self, samples: Samples, teachers: Sequence[Teacher], plan: MiningPlan, ids: Any) -> dict[str, Any]:
        """Return strict JSON: counts, mean rank, and for each teacher its drop rate and mean gap to the positive."""
        return {
            "triples": self.triples,
            "samples": len(samples),
            "relabelled": self.relabelled,
            "queries": len(np.unique(samples.queries)),
            "short": self.short,
            "reasons": dict(sorted(self.reasons.items())),
            "short_reasons": dict(sorted(self.short_reasons.items())),
            "mean_rank": round(self._ranks[1] / self._ranks[0], 2) if self._ranks[0] else None,
            "deepest_rank": self.deepest,
            "teacher_statistics": [self._of_teacher(i, t, samples, plan, ids) for i, t in enumerate(teachers)],
        }

    def _of_teacher(self, number: int, teacher: Teacher, samples: Samples, plan: MiningPlan, ids: Any) -> dict[str, Any]:
        usable = np.flatnonzero(teacher.usable)
        seen, dropped = drop_counts(teacher, samples, plan.rule.min_rank)
        count, total = self._gaps.get(number, (0, 0.0))
        outliers = outlier_positives(samples.queries, teacher.positive_scores)
        scores = teacher.positive_scores[usable].astype(np.float64)
        pairs = [[ids[0][samples.queries[i]], ids[1][samples.positives[i]]] for i in outliers[:_SHOWN].tolist()]
        return {
            "teacher": teacher.name,
            "score_kind": teacher.score_kind,
            "scored_samples": len(usable),
            "mean_positive_score": round(float(scores.mean()), 6) if len(scores) else None,
            "mean_gap": round(total / count, 6) if count else None,
            "triples": count,
            "drop_rate": round(dropped / seen, 6) if seen else None,
            "outlier_positives": len(outliers),
            "outlier_examples": pairs,
        }


def drop_counts(teacher: Teacher, samples: Samples, min_rank: int) -> tuple[int, int]:
    """Return how many of the 50 best candidates of every sample there are, and how many of them the rule rejects."""
    rows = np.flatnonzero(teacher.usable)
    width = min(_WINDOW, teacher.documents.shape[1])
    seen = dropped = 0
    for start in range(0, len(rows), 1 << 16):
        some = rows[start : start + (1 << 16)]
        queries = samples.queries[some].astype(np.intp)
        there = np.minimum(count_prefix(teacher.scores, queries, np.full(len(some), -np.inf, np.float32)), width)
        rejected = np.maximum(count_prefix(teacher.scores, queries, teacher.limits[some]), min_rank - 1)
        seen += int(there.sum())
        dropped += int(np.minimum(rejected, there).sum())
    return seen, dropped
