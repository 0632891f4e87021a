"""Two evaluations on the same queries: is the second better than the first, and by how much?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nv_retriever.config import Frozen
from nv_retriever.errors import InputError
from nv_retriever.evaluation.results import EvaluationResult
from nv_retriever.evaluation.statistics import bootstrap_interval, randomisation_test


class Comparison(Frozen):
    """A paired comparison on one metric: `difference` = `b` - `a`, above zero where the second is better."""

    metric: str
    a: float
    b: float
    difference: float
    low: float | None
    """The ends of the bootstrap (BCa) interval of the difference; None for fewer than two queries."""
    high: float | None
    p: float
    """Of the two-sided paired randomisation test."""
    queries: int

    @property
    def better(self) -> bool:
        """Whether the interval of the difference lies above zero."""
        return self.low is not None and self.low > 0


def compare(
    a_folder: Path, b_folder: Path, metric: str, resamples: int, seed: int = 0, confidence: float = 0.95
) -> Comparison:
    """Compare evaluation `b` with the baseline `a` query by query; raises InputError where the queries are not the same.

    The interval and the test speak of other queries of the same kind; one trained model is taken as it is (for other
    seeds see `evaluation.seeds`).
    """
    a, b = EvaluationResult.open(a_folder), EvaluationResult.open(b_folder)
    (a_ids, a_values), (b_ids, b_values) = a.per_query(metric), b.per_query(metric)
    if not np.array_equal(a_ids, b_ids):
        names = [f"{one.info['dataset']}/{one.info['split']} ({one.info['queries']} queries)" for one in (a, b)]
        raise InputError("comparison", "two evaluations of the same queries", f"{names[0]} and {names[1]}")
    differences = b_values - a_values
    interval = bootstrap_interval(differences, confidence, resamples, seed)
    return Comparison(
        metric=metric,
        a=float(a_values.mean()),
        b=float(b_values.mean()),
        difference=float(differences.mean()),
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        p=randomisation_test(differences, resamples, seed),
        queries=int(differences.size),
    )
