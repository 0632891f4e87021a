"""Measures by their ir_measures names, computed query by query: nothing home-made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import InputError

Run = Mapping[str, Mapping[str, float]]
Judgements = Mapping[str, Mapping[str, int]]
REFUSED = {
    "gdeval": "ir_measures leaves it to a script that reads numeric ids only",
    "accuracy": "it is not defined where nothing relevant, or nothing else, was retrieved",
}
"""Providers of ir_measures, and why their measures cannot be had."""


def parse_metrics(names: Sequence[str], depth: int) -> list[Any]:
    """Return the ir_measures objects of `names` without repeats; raises InputError for an unknown or a too deep one.

    A cutoff beyond `depth` would silently measure less than its name says.
    """
    import ir_measures

    measures: list[Any] = []
    providers = [one for one in ir_measures.DefaultPipeline.providers if one.is_available()]  # the first one computes
    for name in names:
        try:
            measure = ir_measures.parse_measure(name)
            computable = ir_measures.DefaultPipeline.supports(measure)
        except (NameError, ValueError, SyntaxError, TypeError, KeyError, AssertionError) as error:
            hint = "see ir-measur.es for the names"
            raise InputError(
                "metrics", "names of ir_measures such as nDCG@10, R@100, RR@10, AP@100", repr(name), hint
            ) from error
        if not computable:
            raise InputError(
                "metrics", "a measure with an installed provider", repr(name), "ir_measures needs an extra package"
            )
        provider = next(one for one in providers if one.supports(measure)).NAME
        if provider in REFUSED:
            raise InputError("metrics", "a measure that has a value for every query", f"{name!r}: {REFUSED[provider]}")
        cutoff = measure.params.get("cutoff")
        if cutoff is not None and cutoff < 1:
            raise InputError("metrics", "a cutoff of at least 1", repr(name))
        if cutoff is not None and cutoff > depth:
            raise InputError(
                "metrics", f"a cutoff of 1 to depth = {depth}", repr(name), "set evaluation.depth to at least it"
            )
        if measure not in measures:
            measures.append(measure)
    if not measures:
        raise InputError("metrics", "at least one measure", "none")
    return measures


def per_query(measures: Sequence[Any], judgements: Judgements, run: Run) -> npt.NDArray[np.float64]:
    """Return the values of the judged queries, (n_queries, n_measures) in the order of `judgements` and `measures`.

    A query without results has the measure's default, 0.
    """
    import ir_measures

    position = {query: index for index, query in enumerate(judgements)}
    column = {measure: index for index, measure in enumerate(measures)}
    values = np.full((len(position), len(column)), np.nan)
    for metric in ir_measures.iter_calc(measures, judgements, run):
        values[position[metric.query_id], column[metric.measure]] = metric.value
    return values


def aggregate(measures: Sequence[Any], values: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return {name: value over all queries} as each measure aggregates (the mean for all but counts)."""
    result = {}
    for index, measure in enumerate(measures):
        aggregator = measure.aggregator()
        for value in values[:, index]:
            aggregator.add(float(value))
        result[str(measure)] = float(aggregator.result())
    return result
