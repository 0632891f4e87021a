import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nv_retriever.audit.intervals import bootstrap_ratios, clustered_rate, quantile_interval, wilson


def test_wilson_of_the_textbook() -> None:
    # Newcombe 1998, table I: 81 of 263, Wilson score without continuity correction
    assert wilson(81 / 263, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0 / 20, 20, 0.95) == pytest.approx((0.0, 0.1611), abs=5e-5)


STUDENT = (1.95996 / 1.98422) ** 2
"""Of 100 clusters: normal over Student's t with 99 degrees of freedom, squared."""


def test_independent_trials_give_wilson_itself_but_for_students_t() -> None:
    hits = np.array([1.0] * 30 + [0.0] * 70)
    rate = clustered_rate(hits, np.ones(100))
    assert rate.value == 0.3
    assert rate.effective == pytest.approx(99 * STUDENT, abs=1.1)


def test_clusters_of_equal_trials_count_once() -> None:
    hits = np.array([10.0] * 30 + [0.0] * 70)
    rate = clustered_rate(hits, np.full(100, 10.0))
    assert rate.effective == pytest.approx(99 * STUDENT, abs=1.1)
    assert (rate.low, rate.high) == pytest.approx(wilson(0.3, rate.effective, 0.95))


def test_a_rate_of_zero_keeps_an_upper_bound_by_clusters() -> None:
    rate = clustered_rate(np.zeros(10), np.full(10, 100.0))
    assert rate.value == 0
    assert rate.high == pytest.approx(wilson(0, 10, 0.95)[1])


def test_clusters_of_one_rate_count_once_whatever_its_last_bits() -> None:
    assert [clustered_rate(np.full(7, 15.0), np.full(7, float(n))).effective for n in (20, 22)] == [7.0, 7.0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=2, max_size=9))
def test_the_effective_number_is_that_of_korn_and_graubard(pairs: list[tuple[int, int]]) -> None:
    hits, trials = [Fraction(min(a, b)) for a, b in pairs], [b for _, b in pairs]
    rate, n = sum(hits) / sum(trials), len(pairs)
    squares = [(h - rate * t) ** 2 for h, t in zip(hits, trials, strict=True)]
    expected = float(min(sum(trials), n))
    if any(squares):
        kurtosis = n * sum(square**2 for square in squares) / sum(squares) ** 2
        freedom = min(max(2 * n / (kurtosis - 1), 1), n - 1) if kurtosis > 1 else n - 1
        variance = Fraction(n, n - 1) * sum(squares) / sum(trials) ** 2
        student = stats.norm.ppf(0.975) / stats.t.ppf(0.975, float(freedom))
        expected = max(1.0, float(min(sum(trials), rate * (1 - rate) / variance)) * student**2)
    found = clustered_rate(np.array(hits, np.float64), np.array(trials, np.float64))
    assert found.effective == pytest.approx(expected)
    assert (found.low, found.high) == pytest.approx(wilson(float(rate), expected, 0.95))


def test_nothing_counted_is_nan() -> None:
    assert math.isnan(clustered_rate(np.zeros(3), np.zeros(3)).value)
    assert math.isnan(quantile_interval(np.full(5, np.nan), 0.95)[0])
    assert np.isnan(bootstrap_ratios(np.zeros((0, 2)), np.zeros((0, 2)), 5, 0)).all()


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=30))
def test_the_interval_holds_the_rate_and_stays_in_bounds(pairs: list[tuple[int, int]]) -> None:
    hits = np.array([min(a, b) for a, b in pairs], np.float64)
    trials = np.array([b for _, b in pairs], np.float64)
    rate = clustered_rate(hits, trials)
    if trials.sum():
        assert 0 <= rate.low <= rate.value <= rate.high <= 1
        assert rate.value == pytest.approx(hits.sum() / trials.sum())


@pytest.mark.parametrize("clusters", [8, 80])
def test_the_interval_covers_the_truth_of_clustered_data(clusters: int) -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        chances = generator.beta(1, 4, size=clusters)
        hits = generator.binomial(10, chances).astype(np.float64)
        rate = clustered_rate(hits, np.full(clusters, 10.0))
        covered += rate.low <= 0.2 <= rate.high
    assert 0.935 <= covered / 1000 <= 0.98


@pytest.mark.parametrize("clusters", [30, 100])
@pytest.mark.parametrize("chance", [0.005, 0.02, 0.05])
def test_the_interval_covers_rare_hits_that_come_together(clusters: int, chance: float) -> None:
    """Strong agreement within clusters of very different sizes: the few that have hits decide the variance."""
    generator = np.random.default_rng(0)
    covered, lengths = 0, []
    for _ in range(1000):
        trials = generator.integers(1, 40, size=clusters).astype(np.float64)
        hits = generator.binomial(trials.astype(int), generator.beta(chance, 1 - chance, size=clusters)).astype(np.float64)
        rate = clustered_rate(hits, trials)
        covered += rate.low <= chance <= rate.high
        lengths.append(rate.high - rate.low)
    assert covered / 1000 >= 0.885, "with the number of clusters as degrees of freedom 0.84 to 0.87"
    assert np.mean(lengths) < 0.2


def test_bootstrap_agrees_with_the_clustered_interval_and_pairs_columns() -> None:
    generator = np.random.default_rng(1)
    hits = generator.binomial(10, 0.3, size=200).astype(np.float64)
    columns = np.stack([hits, hits / 2], axis=1)
    ratios = bootstrap_ratios(columns, np.full((200, 2), 10.0), 2000, 0)
    assert ratios[:, 1] == pytest.approx(ratios[:, 0] / 2)
    rate = clustered_rate(hits, np.full(200, 10.0))
    assert quantile_interval(ratios[:, 0], 0.95) == pytest.approx((rate.low, rate.high), abs=0.005)
