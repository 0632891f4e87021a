from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nv_retriever.evaluation.statistics import bootstrap_interval, holm, randomisation_test

differences = st.lists(st.integers(-64, 64).map(lambda x: x / 64), min_size=2, max_size=9)
"""Their sums are exact: where hundredths add up to zero, scipy's p-value hangs on the last bits, and ours is 1."""
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(differences)
@settings(max_examples=40, deadline=None)
def test_exact_randomisation_test_is_scipys(values):
    if not any(values):
        assert randomisation_test(values) == 1.0
        return
    oracle = stats.permutation_test(
        (values, np.zeros(len(values))),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert randomisation_test(values) == pytest.approx(min(oracle.pvalue, 1.0))


def test_sampled_randomisation_test_agrees_with_the_exact_one():
    values = np.random.default_rng(0).normal(0.4, 1, 14)
    exact = randomisation_test(values, resamples=2**14)
    sampled = randomisation_test(values, resamples=2**14 - 1)
    assert exact != sampled
    assert sampled == pytest.approx(exact, abs=4 * np.sqrt(exact / 2**14))


def test_randomisation_test_by_hand():
    assert randomisation_test([1, 1, 1, 1]) == 2 / 16  # all plus, all minus
    assert randomisation_test([0, 1, 0, 1, 1, 1]) == 2 / 16  # queries without a difference say nothing
    assert randomisation_test([0.1, 0.2, -0.3]) == 1.0  # the sum is 0, up to rounding
    assert randomisation_test([-0.31, -0.16, 0.43, -0.66, -0.16, 0.43, 0.43]) == 1.0
    assert randomisation_test([]) == 1.0
    assert randomisation_test([1, 1, 1, 1], resamples=16) == 2 / 16  # as many as there are patterns: all are counted
    for scale in (1e-9, 1e9):  # of any size
        assert randomisation_test(scale * np.array([0.1, 0.2, -0.3, 0.7])) == randomisation_test([0.1, 0.2, -0.3, 0.7])


def test_randomisation_test_never_says_zero_and_is_seeded():
    values = np.full(1000, 0.1)
    assert randomisation_test(values, resamples=999) == 1 / 1000
    noisy = np.random.default_rng(1).normal(0.03, 1, 1000)
    assert randomisation_test(noisy, 2000, seed=1) == randomisation_test(noisy, 2000, seed=1)
    assert randomisation_test(noisy, 2000, seed=1) != randomisation_test(noisy, 2000, seed=2)


def test_randomisation_test_is_uniform_without_a_difference():
    generator = np.random.default_rng(2)
    found = [randomisation_test(generator.normal(size=30), 500, seed) for seed in range(300)]
    assert stats.kstest(found, "uniform").pvalue > 0.001


@given(
    st.lists(st.integers(-8, 8), min_size=2, max_size=40).filter(lambda eighths: len(set(eighths)) > 1),
    st.integers(0, 3),
    st.sampled_from([0.5, 0.9, 0.99]),
)
@settings(max_examples=30, deadline=None)
def test_bootstrap_interval_is_scipys(eighths, seed, confidence):
    """From the same resamples the same numbers; eighths, so that many means are equal."""
    values = np.array(eighths) / 8
    drawn = np.random.default_rng(seed).integers(0, len(values), (500, len(values)))
    given_means = stats.bootstrap((values,), np.mean, n_resamples=2, method="percentile")
    given_means.bootstrap_distribution = values[drawn].mean(axis=1)
    oracle = stats.bootstrap(
        (values,), np.mean, n_resamples=0, method="BCa", confidence_level=confidence, bootstrap_result=given_means
    )
    expected = (oracle.confidence_interval.low, oracle.confidence_interval.high)
    assert bootstrap_interval(values, confidence, 500, seed) == pytest.approx(expected, abs=1e-9)


def test_bootstrap_interval_edges():
    assert bootstrap_interval([]) is None
    assert bootstrap_interval([1.0]) is None
    assert bootstrap_interval([0.0, 0.0, 0.0]) == (0.0, 0.0)
    low, high = bootstrap_interval([0.0, 1.0])
    assert 0.0 <= low <= high <= 1.0


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30))
@settings(max_examples=30, deadline=None)
def test_bootstrap_interval_lies_within_the_data(values):
    low, high = bootstrap_interval(values, resamples=200)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


@given(p_values)
def test_corrections_keep_the_order_and_only_raise(values):
    order, corrected = np.argsort(values, kind="stable"), holm(values)
    assert (corrected >= np.array(values) - 1e-15).all()
    assert (corrected <= 1).all()
    assert (np.diff(corrected[order]) >= -1e-15).all()
    assert (corrected <= np.minimum(np.array(values) * len(values), 1) + 1e-12).all()


def test_corrections_by_hand():
    assert holm([0.005, 0.011, 0.02, 0.04]) == pytest.approx([0.02, 0.033, 0.04, 0.04])
    assert holm([]).size == 0


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [np.inf], [[1.0, 2.0]]])
def test_wrong_values_are_refused(bad):
    for function in (randomisation_test, bootstrap_interval, holm):
        with pytest.raises(ValueError, match="finite"):
            function(bad)
