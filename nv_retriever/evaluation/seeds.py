"""Means over seeds and queries at once: how far would another seed and another set of queries have moved the result?

Values form a matrix (seeds, queries) for each data set: every trained model answers every query, so seeds and queries
are *crossed*: y[s, q] = mean + seed[s] + query[q] + rest[s, q]. The same seeds appear in every data set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """Variance components of a crossed design (one data set), estimated from mean squares; none is below zero."""

    seed: float
    query: float
    rest: float
    """Interaction of seed and query, and noise."""
    seeds: int
    queries: int


@dataclass(frozen=True)
class Estimate:
    """A mean with an interval and a p-value for zero."""

    mean: float
    low: float | None
    """None where there are too few values for an interval."""
    high: float | None
    p: float | None
    standard_error: float
    degrees: float
    """Degrees of freedom of the t distribution (Satterthwaite)."""
    seeds: int
    queries: int


def components(values: npt.ArrayLike) -> Components:
    """Return the variance components of `values` (seeds, queries), both at least 2, by the two-way analysis of variance.

    Of [[0, 2], [2, 8]]: mean squares seeds 16, queries 16, rest 4, so 6, 6 and 4:
    >>> components([[0, 2], [2, 8]])
    Components(seed=6.0, query=6.0, rest=4.0, seeds=2, queries=2)
    """
    y = _matrix(values)
    seeds, queries = y.shape
    if seeds < 2 or queries < 2:
        raise ValueError(f"expected at least two seeds and two queries, found {seeds} and {queries}")
    of_seeds, of_queries = y.mean(axis=1, keepdims=True), y.mean(axis=0, keepdims=True)
    rest = float(((y - of_seeds - of_queries + y.mean()) ** 2).sum() / ((seeds - 1) * (queries - 1)))
    seed = (queries * float(np.var(of_seeds, ddof=1)) - rest) / queries
    query = (seeds * float(np.var(of_queries, ddof=1)) - rest) / seeds
    return Components(max(seed, 0.0), max(query, 0.0), rest, seeds, queries)


def mean_components(datasets: Sequence[npt.ArrayLike]) -> Components:
    """Return the components of one data set whose mean has the variance of the mean over data sets, each weighing the same.

    `datasets` are matrices (seeds, queries), at least two seeds, and two queries in one of them. A data set's components
    over its own number of queries add up; all of it is then said for the queries of all together, so that twice as many
    of these are twice as many in every data set. A data set with one query tells the spread of the seeds only.

    One data set is itself:
    >>> mean_components([[[0, 2], [2, 8]]]) == components([[0, 2], [2, 8]])
    True
    """
    matrices = [_matrix(values) for values in datasets]
    total, count = sum(matrix.shape[1] for matrix in matrices), len(matrices)
    parts = [components(matrix) for matrix in matrices if matrix.shape[1] > 1]
    query = total * sum(part.query / part.queries for part in parts) / count**2
    rest = total * sum(part.rest / part.queries for part in parts) / count**2
    of_seeds = np.mean([matrix.mean(axis=1) for matrix in matrices], axis=0)
    seed = float(np.var(of_seeds, ddof=1)) - rest / total
    return Components(max(seed, 0.0), query, rest, len(of_seeds), total)


def mean_interval(datasets: Sequence[npt.ArrayLike], confidence: float = 0.95) -> Estimate:
    """Return the mean over data sets (each weighs the same) with a t interval over seeds and queries jointly.

    `datasets` are matrices (seeds, queries), values or paired differences. The variance of the mean is the variance of
    the seeds' means over S, plus each data set's own query component over its Q (Satterthwaite's degrees of freedom).
    With one seed the interval covers the queries only, with one query a data set the seeds only.

    One seed is the classical t interval; (1, 2, 3) has mean 2 and standard error 0.577, and t(2) at 97.5 % is 4.303:
    >>> estimate = mean_interval([[[1.0, 2.0, 3.0]]])
    >>> round(estimate.low, 3), round(estimate.high, 3), round(estimate.p, 3)
    (-0.484, 4.484, 0.074)
    """
    from scipy.stats import t as student

    matrices = [_matrix(values) for values in datasets]
    seeds = matrices[0].shape[0]
    if any(matrix.shape[0] != seeds for matrix in matrices):
        raise ValueError(f"expected the same seeds on every data set, found {[matrix.shape[0] for matrix in matrices]}")
    mean = float(np.mean([matrix.mean() for matrix in matrices]))
    terms = variance_terms(matrices)
    variance = sum(value for value, _ in terms)
    queries = sum(matrix.shape[1] for matrix in matrices)
    if not terms:
        return Estimate(mean, None, None, None, math.nan, 0.0, seeds, queries)
    if variance == 0.0:
        return Estimate(mean, mean, mean, 1.0 if mean == 0.0 else 0.0, 0.0, math.inf, seeds, queries)
    degrees = satterthwaite(terms)
    error = math.sqrt(variance)
    half = float(student.ppf(0.5 + confidence / 2, degrees)) * error
    p = float(2 * student.sf(abs(mean) / error, degrees))
    return Estimate(mean, mean - half, mean + half, p, error, degrees, seeds, queries)


def variance_terms(matrices: Sequence[Matrix]) -> list[tuple[float, float]]:
    """Return the (variance of the mean, degrees of freedom) of each source: the seeds, then each data set's queries."""
    seeds, count = matrices[0].shape[0], len(matrices)
    terms: list[tuple[float, float]] = []
    if seeds > 1:
        of_seeds = np.mean([matrix.mean(axis=1) for matrix in matrices], axis=0)
        terms.append((float(np.var(of_seeds, ddof=1)) / seeds, seeds - 1.0))
    for matrix in matrices:
        queries = matrix.shape[1]
        if queries < 2:
            continue
        query = components(matrix).query if seeds > 1 else float(np.var(matrix, ddof=1))
        terms.append((query / (queries * count**2), queries - 1.0))
    return terms


def satterthwaite(terms: Sequence[tuple[float, float]]) -> float:
    """Return the effective degrees of freedom of a sum of variances.

    Two equal variances of 4 degrees each have 8:
    >>> satterthwaite([(1.0, 4.0), (1.0, 4.0)])
    8.0
    """
    total = sum(value for value, _ in terms)
    return total**2 / sum(value**2 / degrees for value, degrees in terms)


def _matrix(values: npt.ArrayLike) -> Matrix:
    y = np.asarray(values, np.float64)
    if y.ndim != 2 or not y.size or not np.isfinite(y).all():
        raise ValueError(f"expected a matrix of finite numbers (seeds, queries), found shape {y.shape} or NaN in it")
    return y
