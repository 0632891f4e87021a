from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nv_retriever.evaluation.power import (
    detectable_difference,
    power,
    queries_needed,
    seeds_needed,
    standard_error,
)
from nv_retriever.evaluation.seeds import (
    Components,
    Estimate,
    components,
    mean_components,
    mean_interval,
)


def simulate(generator, seeds, queries, seed=0.0, query=0.0, rest=0.0, mean=0.0):
    return (
        mean
        + generator.normal(0, math.sqrt(seed), (seeds, 1))
        + generator.normal(0, math.sqrt(query), (1, queries))
        + generator.normal(0, math.sqrt(rest), (seeds, queries))
    )


def test_components_by_hand():
    # seeds' means 1 and 5 (variance 8, mean square 16), queries' means 1 and 5 (mean square 16), rest ±1 (mean square 4)
    assert components([[0, 2], [2, 8]]) == Components(6.0, 6.0, 4.0, 2, 2)
    assert components([[0, 1], [1, 0]]) == Components(0.0, 0.0, 1.0, 2, 2)  # estimated as -0.5, which no variance is


def test_components_are_found_on_average():
    generator = np.random.default_rng(0)
    found = [components(simulate(generator, 5, 60, seed=2.0, query=3.0, rest=1.0)) for _ in range(300)]
    assert np.mean([one.seed for one in found]) == pytest.approx(2.0, rel=0.15)
    assert np.mean([one.query for one in found]) == pytest.approx(3.0, rel=0.05)
    assert np.mean([one.rest for one in found]) == pytest.approx(1.0, rel=0.05)


def test_one_seed_is_the_t_test_over_queries_and_one_query_the_t_test_over_seeds():
    values = np.random.default_rng(1).normal(0.2, 1, 25)
    oracle = stats.ttest_1samp(values, 0.0)
    for matrix in (values[None], values[:, None]):
        found = mean_interval([matrix])
        assert found.p == pytest.approx(oracle.pvalue)
        assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))


def test_mean_interval_of_one_data_set_is_the_analysis_of_variance():
    y = simulate(np.random.default_rng(2), 4, 30, seed=0.5, query=1.0, rest=0.5)
    seeds, queries = y.shape
    spread = components(y)
    mean_squares = (spread.seed * queries + spread.rest, spread.query * seeds + spread.rest, spread.rest)
    variance = (mean_squares[0] + mean_squares[1] - mean_squares[2]) / (seeds * queries)
    assert mean_interval([y]).standard_error == pytest.approx(math.sqrt(variance))


def test_mean_over_data_sets_weighs_them_equally():
    small, large = np.array([[1.0, 3.0], [2.0, 4.0]]), np.zeros((2, 100))
    found = mean_interval([small, large])
    assert found.mean == pytest.approx(1.25)
    assert (found.seeds, found.queries) == (2, 102)
    with pytest.raises(ValueError, match="same seeds"):
        mean_interval([small, large[:1]])


def test_nothing_to_estimate_from():
    alone = mean_interval([[[0.5]]])
    assert (alone.mean, alone.low, alone.high, alone.p) == (0.5, None, None, None)
    same = mean_interval([np.zeros((3, 4))])
    assert (same.low, same.high, same.p) == (0.0, 0.0, 1.0)
    assert mean_interval([np.full((3, 4), 0.5)]) == Estimate(0.5, 0.5, 0.5, 0.0, 0.0, math.inf, 3, 4)


@pytest.mark.parametrize("case", [{"seed": 0.02}, {"query": 1.0}, {"seed": 0.01, "query": 0.5, "rest": 0.5}])
def test_the_joint_interval_covers_the_truth(case):
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        found = mean_interval([simulate(generator, 3, 50, **case, mean=0.3), simulate(generator, 3, 20, **case, mean=0.3)])
        hits += found.low <= 0.3 <= found.high
    assert 0.92 <= hits / 400 <= 0.995


def two_way_bootstrap(y, resamples):
    """Seeds and queries drawn anew independently, the "pigeonhole" bootstrap (Owen 2007)."""
    generator = np.random.default_rng(0)
    seeds, queries = (generator.multinomial(n, np.full(n, 1 / n), size=resamples) / n for n in y.shape)
    return np.quantile(((seeds @ y) * queries).sum(axis=1), [0.025, 0.975])


def test_the_two_way_bootstrap_agrees_where_there_are_many_seeds():
    y = simulate(np.random.default_rng(4), 30, 80, seed=0.2, query=1.0, rest=0.3)
    exact, found = mean_interval([y]), two_way_bootstrap(y, 4000)
    assert found[1] - found[0] == pytest.approx(exact.high - exact.low, rel=0.12)


@pytest.mark.parametrize(
    "spread,seeds,variance,degrees",
    [
        (Components(0.3, 1.0, 0.5, 1, 12), 1, (1.0 + 0.5) / 12, 11),  # the seed is held fixed
        (Components(0.0, 1.0, 0.0, 4, 12), 4, 1.0 / 12, 11),
        (Components(0.3, 0.0, 0.6, 4, 12), 4, 0.3 / 4 + 0.6 / 48, 3),
    ],
)
def test_power_against_one_source_of_variance_is_the_noncentral_t(spread, seeds, variance, degrees):
    critical, centre = stats.t.isf(0.05, degrees), 0.5 / math.sqrt(variance)
    exact = stats.nct.sf(critical, degrees, centre) + stats.nct.cdf(-critical, degrees, centre)
    assert power(spread, 0.5, seeds, 12, level=0.1) == pytest.approx(exact)


def test_power_without_spread_or_with_one_query():
    nothing = Components(0.0, 0.0, 0.0, 3, 10)
    assert (power(nothing, 1e-9, 3, 10), power(nothing, 0.0, 3, 10)) == (1.0, 0.05)
    assert power(Components(0.1, 0.0, 0.0, 3, 10), 100.0, 3, 1) == 0.0
    small, large = Components(0.0, 1e-8, 0.0, 3, 10), Components(0.0, 1.0, 0.0, 3, 10)
    assert detectable_difference(small, 1, 2) == pytest.approx(1e-4 * detectable_difference(large, 1, 2))


def test_power_is_what_simulated_experiments_find():
    spread = Components(seed=0.01, query=0.5, rest=0.5, seeds=4, queries=60)
    generator, found = np.random.default_rng(5), 0
    for _ in range(400):
        estimate = mean_interval([simulate(generator, 4, 60, 0.01, 0.5, 0.5, mean=0.35)])
        found += estimate.p < 0.05
    assert power(spread, 0.35, 4, 60) == pytest.approx(found / 400, abs=0.08)


def test_power_is_of_the_mean_over_data_sets_whatever_their_sizes():
    """Twenty queries weigh as much as four hundred: pooled, they would seem to show half the difference."""
    generator, found, powers = np.random.default_rng(6), 0, []
    for _ in range(300):
        both = [simulate(generator, 3, queries, 0.0, 0.5, 0.5, mean=0.31) for queries in (20, 400)]
        found += mean_interval(both).p < 0.05
        powers.append(power(mean_components(both), 0.31, 3, 420))
    assert np.mean(powers) == pytest.approx(found / 300, abs=0.1)


def test_components_of_the_mean_over_data_sets():
    y = simulate(np.random.default_rng(7), 4, 30, seed=0.5, query=1.0, rest=0.5)
    of_one, of_two, alone = mean_components([y]), mean_components([y, y]), components(y)
    assert standard_error(of_one, 4, 30) == pytest.approx(standard_error(alone, 4, 30))
    assert (of_one.query, of_one.rest, of_one.seed) == pytest.approx((alone.query, alone.rest, alone.seed))
    assert (of_two.queries, of_two.query) == (60, pytest.approx(alone.query))
    with_a_single_query = mean_components([y, y[:, :1]])
    assert with_a_single_query.query == pytest.approx(31 * alone.query / 30 / 4)


def test_numbers_needed():
    of_queries = Components(0.0, 1.0, 0.0, 1, 10)
    # Cohen (1988): 34 pairs show half a standard deviation with power .80, 90 show .30 with .80 (two-sided .05)
    assert queries_needed(of_queries, 0.5, seeds=1) == 34
    assert queries_needed(of_queries, 0.3, seeds=1) == 90
    spread = Components(seed=0.0004, query=0.04, rest=0.0, seeds=3, queries=100)
    assert queries_needed(spread, 0.01, seeds=3) is None  # the seeds alone spread it by 0.0115
    assert seeds_needed(spread, 0.01, queries=100) is None  # the queries alone spread it by 0.02
    enough = seeds_needed(spread, 0.02, queries=4000)
    assert power(spread, 0.02, enough, 4000) >= 0.8 > power(spread, 0.02, enough - 1, 4000)


def test_detectable_difference_is_the_inverse_of_power():
    spread = Components(seed=0.0001, query=0.03, rest=0.02, seeds=3, queries=300)
    size = detectable_difference(spread, 3, 300)
    assert power(spread, size, 3, 300) == pytest.approx(0.8, abs=1e-3)
    assert size > 2.8 * standard_error(spread, 3, 300)
    assert power(spread, 0.0, 3, 300) == pytest.approx(0.05, abs=1e-6)


def test_one_query_detects_nothing():
    with pytest.raises(ValueError, match="at least two queries, found 1"):
        detectable_difference(Components(0.1, 0.1, 0.1, 3, 10), 3, 1)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 20])
def test_power_is_a_probability_that_grows_with_the_difference(seeds):
    spread = Components(seed=0.0, query=0.001, rest=0.005, seeds=3, queries=120)
    found = [power(spread, difference, seeds, 120) for difference in np.geomspace(1e-6, 1e3, 60)]
    assert all(0.049 <= value <= 1 for value in found)
    assert (np.diff(found) >= -1e-9).all()
    assert found[-1] == pytest.approx(1.0)
    enough = seeds_needed(spread, 0.0455, 120)
    assert enough == next(count for count in range(2, 50) if power(spread, 0.0455, count, 120) >= 0.8)
