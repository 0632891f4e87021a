"""Paired comparisons of per-query values: randomisation test, bootstrap intervals, a correction for many comparisons."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
_BLOCK = 1 << 21
"""Random numbers that are held at once."""


def randomisation_test(differences: npt.ArrayLike, resamples: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p-value of the paired randomisation (sign flip) test of a mean difference of zero.

    Under the null hypothesis each query's difference is as likely to have the other sign. All 2^n sign patterns are
    counted where there are at most `resamples` of them; else p = (1 + c) / (1 + resamples), which is never 0
    (Smucker, Allan, Carterette 2007; Phipson and Smyth 2010). `differences` (n,), one a query.

    Of the eight sign patterns of (1, 2, 3), two have a mean as far from zero as 2:
    >>> randomisation_test([1.0, 2.0, 3.0])
    0.25
    """
    values = _finite(differences)
    values = values[values != 0.0]  # a query without a difference is the same under both signs
    n = values.size
    observed = abs(values.sum())
    at_least = observed - 1e-12 * np.abs(values).sum()  # equal sums may differ in the last bits
    if 2.0**n <= resamples:
        hits = sum(int((np.abs(sums) >= at_least).sum()) for sums in _all_sums(values))
        return float(hits / 2.0**n)
    generator, reached, left = np.random.default_rng(seed), 0, resamples
    rows = max(1, _BLOCK // n)
    while left:
        take = min(rows, left)
        bits = np.unpackbits(np.frombuffer(generator.bytes(take * -(-n // 8)), np.uint8).reshape(take, -1), axis=1)
        sums = 2.0 * (bits[:, :n].astype(np.float64) @ values) - values.sum()
        reached += int((np.abs(sums) >= at_least).sum())
        left -= take
    return (1 + reached) / (1 + resamples)


def _all_sums(values: Values) -> Iterator[Values]:
    """Yield the sums of `values` under every pattern of signs."""
    patterns = np.arange(2**values.size, dtype=np.int64)
    for part in np.array_split(patterns, max(1, patterns.size * values.size // _BLOCK)):
        signs = 1.0 - 2.0 * ((part[:, None] >> np.arange(values.size)) & 1)
        yield signs @ values


def bootstrap_interval(
    values: npt.ArrayLike, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float] | None:
    """Return the BCa bootstrap interval of the mean of `values` (n,), or None for fewer than two values.

    BCa corrects the percentile interval for bias and skewness (Efron 1987). Closed forms for the mean replace scipy's
    jackknife, whose memory grows with n²; otherwise the numbers are those of `scipy.stats.bootstrap`.

    >>> bootstrap_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    data = _finite(values)
    n = data.size
    if n < 2:
        return None
    if np.ptp(data) == 0.0:
        return float(data[0]), float(data[0])
    means = np.concatenate(list(_bootstrap_means(data, resamples, seed)))
    low = (1 - confidence) / 2
    ends = np.quantile(means, _bca_levels(data, means, np.array([low, 1 - low])))
    return float(ends[0]), float(ends[1])


def _bootstrap_means(data: Values, resamples: int, seed: int) -> Iterator[Values]:
    generator, rows = np.random.default_rng(seed), max(1, _BLOCK // data.size)
    for start in range(0, resamples, rows):
        drawn = generator.integers(0, data.size, (min(rows, resamples - start), data.size))
        yield data[drawn].mean(axis=1)


def _bca_levels(data: Values, means: Values, levels: Values) -> Values:
    from scipy.special import ndtr, ndtri

    tolerance = 1e-12 * np.abs(data).max()
    below, equal = (means < data.mean() - tolerance).mean(), (np.abs(means - data.mean()) <= tolerance).mean()
    bias = ndtri(min(max(below + equal / 2, 1e-9), 1 - 1e-9))
    centred = data - data.mean()  # jackknife means differ from their mean by -centred / (n - 1)
    centred /= np.abs(centred).max()  # powers of tiny differences vanish
    acceleration = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
    z = bias + ndtri(levels)
    return np.asarray(ndtr(bias + z / (1 - acceleration * z)), np.float64)


def holm(p_values: npt.ArrayLike) -> Values:
    """Return p-values corrected so that the chance of any false discovery stays below the level (Holm 1979).

    The smallest is multiplied by m, the next by m - 1, …, and none is smaller than the one before it.
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = _finite(p_values)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(p.size)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return corrected


def _finite(values: npt.ArrayLike) -> Values:
    data = np.asarray(values, np.float64)
    if data.ndim != 1 or not math.isfinite(float(np.abs(data).sum())):
        raise ValueError(
            f"expected one row of finite numbers, found shape {data.shape} with NaN or infinity, or several rows"
        )
    return data
