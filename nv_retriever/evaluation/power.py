"""Power analysis: how many seeds and queries show a difference of a given size, and which size a given run can show."""

from __future__ import annotations

import math
from collections.abc import Callable

from nv_retriever.evaluation.seeds import Components, satterthwaite

_MOST = 1 << 24


def standard_error(spread: Components, seeds: int, queries: int) -> float:
    """Return the standard error of a mean difference over `seeds` and `queries` of the given variance components.

    The square root of 0.0001 + 0.0004 + 0.0002:
    >>> round(standard_error(Components(seed=0.0003, query=0.04, rest=0.06, seeds=3, queries=300), 3, 100), 6)
    0.026458
    """
    return math.sqrt(spread.seed / seeds + spread.query / queries + spread.rest / (seeds * queries))


def power(spread: Components, difference: float, seeds: int, queries: int, level: float = 0.05) -> float:
    """Return the chance that a two-sided t test over seeds and queries finds a true `difference`.

    With `seeds` = 1 the seed is held fixed: the answer speaks of these models, not of the method.
    The classical case, 34 pairs for half a standard deviation (Cohen 1988, table 2.4.1: power .80 to .81):
    >>> one = Components(seed=0.0, query=1.0, rest=0.0, seeds=1, queries=34)
    >>> round(power(one, 0.5, 1, 34), 2)
    0.81
    """
    from scipy.stats import f as central
    from scipy.stats import ncf

    if queries < 2:
        return 0.0
    of_seeds = (spread.seed / seeds + spread.rest / (seeds * queries), seeds - 1.0)
    of_queries = (spread.query / queries, queries - 1.0)
    if seeds == 1:
        of_queries = ((spread.query + spread.rest) / queries, queries - 1.0)
    terms = [(value, degrees) for value, degrees in (of_seeds, of_queries) if degrees > 0 and value > 0]
    if not terms:
        return 1.0 if difference else level
    degrees = satterthwaite(terms)
    centre = abs(difference) / math.sqrt(sum(value for value, _ in terms))
    if centre > 1e3:
        return 1.0
    # t² is F(1, degrees); scipy's noncentral t gives NaN in the far tail, its noncentral F does not
    critical = float(central.isf(level, 1, degrees))
    return float(ncf.sf(critical, 1, degrees, centre**2)) if centre else level


def queries_needed(
    spread: Components, difference: float, seeds: int, level: float = 0.05, wanted: float = 0.8
) -> int | None:
    """Return the smallest number of queries that shows `difference` with the wanted power; None where none does.

    More queries do not help against the spread of the seeds. The classical case:
    >>> queries_needed(Components(0.0, 1.0, 0.0, 1, 10), 0.5, seeds=1)
    34
    """
    return _smallest(lambda queries: power(spread, difference, seeds, queries, level) >= wanted)


def seeds_needed(
    spread: Components, difference: float, queries: int, level: float = 0.05, wanted: float = 0.8
) -> int | None:
    """Return the smallest number of seeds (at least 2) that shows `difference` with the wanted power; None where none does.

    More seeds do not help against too few queries.
    """
    return _smallest(lambda seeds: power(spread, difference, seeds, queries, level) >= wanted)


def detectable_difference(spread: Components, seeds: int, queries: int, level: float = 0.05, wanted: float = 0.8) -> float:
    """Return the smallest true difference that a run of this size shows with the wanted power (ValueError: one query).

    >>> round(detectable_difference(Components(0.0, 1.0, 0.0, 1, 34), seeds=1, queries=34), 2)
    0.5
    """
    if queries < 2:
        raise ValueError(f"expected at least two queries, found {queries}: they show no difference, however large")
    low, high = 0.0, max(standard_error(spread, seeds, queries), 1e-12)
    while power(spread, high, seeds, queries, level) < wanted:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if power(spread, middle, seeds, queries, level) >= wanted else (middle, high)
    return high


def _smallest(enough: Callable[[int], bool]) -> int | None:
    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
