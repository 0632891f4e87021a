"""Systems side by side: each with its metrics, and the difference to the first with interval and corrected p-value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from nv_retriever.evaluation.compare import compare
from nv_retriever.evaluation.results import EvaluationResult
from nv_retriever.evaluation.statistics import benjamini_hochberg, holm
from nv_retriever.report.table import Cell, Table, format_interval, format_p

Correction = Literal["holm", "benjamini-hochberg", "none"]


def systems_table(
    systems: Mapping[str, Path],
    resamples: int,
    metric: str = "nDCG@10",
    baseline: str | None = None,
    correction: Correction = "holm",
    confidence: float = 0.95,
) -> Table:
    """Return a table of evaluated systems {name: evaluation folder}, in the given order.

    Every system but the baseline (the first, unless named) is compared with it on `metric`; p-values are corrected for
    the number of comparisons. All must be evaluations of the same queries.
    """
    results = {name: EvaluationResult.open(folder) for name, folder in systems.items()}
    base = baseline if baseline is not None else next(iter(systems))
    others = [name for name in systems if name != base]
    comparisons = {name: compare(systems[base], systems[name], metric, resamples, confidence=confidence) for name in others}
    p_values = dict(zip(others, correct([comparisons[name].p for name in others], correction), strict=True))
    metrics = [name for name in results[base].metrics if all(name in result.metrics for result in results.values())]
    corrected = correction if correction != "none" and len(others) > 1 else ""
    columns = ["system", *metrics, f"difference in {metric}", f"{100 * confidence:g} % interval"]
    columns.append(f"p ({corrected})" if corrected else "p")
    rows: list[list[Cell]] = []
    for name, result in results.items():
        row: list[Cell] = [name, *(result.metrics[one] for one in metrics)]
        if name in comparisons:
            found = comparisons[name]
            row += [
                f"{found.difference:+.4f}".replace("-", "−"),
                format_interval(found.low, found.high),
                format_p(p_values[name]),
            ]
        else:
            row += [None, None, None]
        rows.append(row)
    best = max(range(len(rows)), key=lambda index: list(results.values())[index].metrics[metric])
    info = results[base].info
    caption = f"{info['dataset']} ({info['split']}): {info['queries']:,} queries, {info['documents']:,} documents"
    return Table(columns, rows, caption, strong={(best, 1 + metrics.index(metric))})


def correct(p_values: Sequence[float], correction: Correction) -> list[float]:
    """Return p-values corrected for many comparisons.

    >>> correct([0.01, 0.04, 0.03], "holm")
    [0.03, 0.06, 0.06]
    """
    if correction == "holm":
        return [float(p) for p in holm(p_values)]
    if correction == "benjamini-hochberg":
        return [float(p) for p in benjamini_hochberg(p_values)]
    return list(p_values)
