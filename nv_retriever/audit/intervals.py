"""Intervals of rates whose trials come in clusters: the negatives of one query are not independent of each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.float64]
_CELLS = 1 << 22


@dataclass(frozen=True)
class Rate:
    """A share with its interval; NaN all over where nothing was counted."""

    value: float
    low: float
    high: float
    effective: float
    """Number of independent trials that would give an interval as wide."""


def wilson(rate: float, trials: float, confidence: float) -> tuple[float, float]:
    """Return the Wilson score interval (1927) of a share among `trials`, which need not be whole."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    shrink = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / shrink
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / shrink
    return max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half))


def clustered_rate(hits: Counts, trials: Counts, confidence: float = 0.95) -> Rate:
    """Return sum(hits) / sum(trials) with a Wilson interval on the effective number of trials.

    `hits`, `trials` (n_clusters,). The effective number is p(1-p) over the linearised variance of the ratio between
    clusters, at most the trials, and fewer by what Student's t is wider than the normal distribution (Korn and Graubard
    1998), its degrees of freedom from the residuals' kurtosis; without any variation it is the number of clusters, so that a
    rate of zero over few queries keeps an honest upper bound.
    """
    from scipy.special import ndtri, stdtrit

    used = trials > 0
    hits, trials = hits[used], trials[used]
    total, clusters = float(trials.sum()), len(trials)
    if clusters == 0:
        return Rate(math.nan, math.nan, math.nan, 0.0)
    rate = float(hits.sum()) / total
    residuals = hits - rate * trials
    residuals[np.abs(residuals) <= 1e-12 * trials] = 0.0  # rounding is no variation
    variance = float(residuals @ residuals) / total**2 * clusters / max(clusters - 1, 1)
    effective = min(total, float(clusters))
    if clusters > 1 and variance > 0:
        tail = 0.5 - confidence / 2
        effective = min(total, rate * (1 - rate) / variance) * float(ndtri(tail) / stdtrit(_freedom(residuals), tail)) ** 2
        effective = max(1.0, effective)
    return Rate(rate, *wilson(rate, effective, confidence), effective)


def _freedom(residuals: Counts) -> float:
    """Return the degrees of freedom of a variance of residuals (n,) with mean zero, at most n - 1.

    A variance s2 whose own variance is s2^2 (kurtosis - 1) / n varies as one of 2 n / (kurtosis - 1) degrees (Satterthwaite
    1946). Where few clusters have hits, they alone decide it, however many there are without.
    """
    squares = residuals**2
    kurtosis = float((squares**2).mean() / squares.mean() ** 2)
    n = len(residuals)
    return float(np.clip(2 * n / max(kurtosis - 1, 1e-9), 1, n - 1))


def bootstrap_ratios(hits: Counts, trials: Counts, resamples: int, seed: int) -> Counts:
    """Return resampled ratios sum(hits) / sum(trials), the clusters drawn with replacement and shared by all columns.

    `hits`, `trials` (n_clusters, n_columns) -> (resamples, n_columns); NaN where a resample has no trials.
    """
    clusters, columns = hits.shape
    out = np.full((resamples, columns), np.nan)
    if clusters == 0:
        return out
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // clusters)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        weights = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=size).astype(np.float64)
        drawn = weights @ trials
        np.divide(weights @ hits, drawn, out=out[start : start + size], where=drawn > 0)
    return out


def quantile_interval(values: Counts, confidence: float) -> tuple[float, float]:
    """Return the percentile interval of resampled values (n,), NaN left out; NaN where nothing is left."""
    kept = values[np.isfinite(values)]
    if len(kept) == 0:
        return math.nan, math.nan
    low, high = np.quantile(kept, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)
