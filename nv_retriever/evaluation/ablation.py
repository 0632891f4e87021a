"""The ablation's cells and its comparisons: every table is a mean over data sets with an interval over seeds and queries.

A cell is one trained model (method, teacher, seed) measured on one data set. Methods are compared with a baseline in
pairs: the same seed, the same query. All functions are pure; the tables and the report are in `ablation_report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import InputError
from nv_retriever.evaluation.power import detectable_difference, queries_needed, seeds_needed
from nv_retriever.evaluation.results import EvaluationResult
from nv_retriever.evaluation.seeds import Components, Estimate, mean_components, mean_interval
from nv_retriever.evaluation.statistics import holm

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One trained model on one data set."""

    method: str
    """What is varied: a rule, a selection, an ensemble, by its name that round-trips."""
    teacher: str
    seed: int
    dataset: str
    query_ids: tuple[str, ...]
    values: Values
    """(n_queries,) float64, in the order of `query_ids`."""

    @classmethod
    def of(cls, folder: Path, method: str, teacher: str, seed: int, metric: str = "nDCG@10") -> Cell:
        """Read a cell from an evaluation artifact."""
        result = EvaluationResult.open(folder)
        ids, values = result.per_query(metric)
        return cls(method, teacher, seed, str(result.info["dataset"]), tuple(ids), values)


@dataclass(frozen=True)
class Row:
    """One method (or teacher) of a table."""

    name: str
    estimate: Estimate
    """Of the metric itself."""
    difference: Estimate | None
    """To the baseline, in pairs; None for the baseline."""
    p: float | None
    """Of the difference, corrected for the number of rows compared (Holm)."""
    by_dataset: dict[str, float]
    """Means over seeds and queries."""


@dataclass(frozen=True)
class PowerRow:
    """What a run of this size can show about one method, and how large it would have to be."""

    name: str
    difference: float
    """Observed, to the baseline."""
    detectable: float
    """The smallest true difference that this run shows with a power of 80 %, at a two-sided level of 5 %."""
    queries: int | None
    """Queries that would show the observed difference with these seeds; None where more queries do not help."""
    seeds: int | None
    """Seeds that would show it with these queries; None where more seeds do not help."""
    components: Components


class Ablation:
    """The cells of a study, complete: every (method, teacher) has every seed on every data set, on the same queries."""

    def __init__(self, cells: Iterable[Cell], by: Literal["method", "teacher"] = "method") -> None:
        """Group cells by method or by teacher; raises InputError for a cell that is missing, double or on other queries."""
        self.by = by
        self._cells: dict[tuple[str, int, str], Cell] = {}
        for cell in cells:
            key = (getattr(cell, by), cell.seed, cell.dataset)
            if key in self._cells:
                raise InputError("ablation", f"one cell for each {by}, seed and data set", f"two for {key}")
            self._cells[key] = cell
        self.names = tuple(dict.fromkeys(name for name, _, _ in self._cells))
        self.seeds = tuple(sorted({seed for _, seed, _ in self._cells}))
        self.datasets = tuple(dict.fromkeys(dataset for _, _, dataset in self._cells))
        if not self._cells:
            raise InputError("ablation", "at least one cell", "none")
        self._check()

    def _check(self) -> None:
        for dataset in self.datasets:
            expected = None
            for name in self.names:
                for seed in self.seeds:
                    cell = self._cells.get((name, seed, dataset))
                    if cell is None:
                        raise InputError(
                            "ablation", f"a cell for {name}, seed {seed}, {dataset}", "none", "is it still running?"
                        )
                    expected = expected or cell.query_ids
                    if cell.query_ids != expected or len(cell.values) != len(expected):
                        raise InputError(
                            f"ablation, {dataset}", "the same queries in all cells", f"others for {name}, seed {seed}"
                        )

    def cells(self) -> list[Cell]:
        """Return all cells."""
        return list(self._cells.values())

    def values(self, name: str) -> list[Values]:
        """Return one matrix (seeds, queries) a data set."""
        return [np.stack([self._cells[name, seed, one].values for seed in self.seeds]) for one in self.datasets]

    def differences(self, name: str, baseline: str) -> list[Values]:
        """Return the paired differences to the baseline, one matrix (seeds, queries) a data set."""
        return [ours - base for ours, base in zip(self.values(name), self.values(baseline), strict=True)]

    def rows(self, baseline: str) -> list[Row]:
        """Return a row for each method (or teacher), all but the baseline compared with it."""
        if baseline not in self.names:
            raise InputError("ablation", f"a baseline among {', '.join(self.names)}", repr(baseline))
        others = [name for name in self.names if name != baseline]
        differences = {name: mean_interval(self.differences(name, baseline)) for name in others}
        tested = [name for name in others if differences[name].p is not None]
        p = dict(zip(tested, holm([float(differences[name].p or 0.0) for name in tested]).tolist(), strict=True))
        rows = []
        for name in self.names:
            matrices = self.values(name)
            by_dataset = {one: float(matrix.mean()) for one, matrix in zip(self.datasets, matrices, strict=True)}
            rows.append(Row(name, mean_interval(matrices), differences.get(name), p.get(name), by_dataset))
        return rows

    @property
    def queries(self) -> int:
        """Queries of all data sets together."""
        return sum(matrix.shape[1] for matrix in self.values(self.names[0]))

    @property
    def has_power(self) -> bool:
        """Whether there are enough seeds and queries for a power analysis."""
        return len(self.seeds) > 1 and self._most_queries > 1

    @property
    def _most_queries(self) -> int:
        return max(int(matrix.shape[1]) for matrix in self.values(self.names[0]))

    def power(self, baseline: str) -> list[PowerRow]:
        """Return the power analysis of each difference to the baseline, of the mean over data sets that `rows` tests.

        More queries are more in every data set alike. Needs at least two seeds and, in some data set, two queries: one
        says nothing about the spread of the next.
        """
        if not self.has_power:
            found = f"{len(self.seeds)} and {self._most_queries}"
            raise InputError("power analysis", "at least 2 seeds, and 2 queries of a data set", found)
        rows = []
        for name in self.names:
            if name == baseline:
                continue
            matrices = self.differences(name, baseline)
            spread, size = mean_components(matrices), float(np.mean([matrix.mean() for matrix in matrices]))
            seeds, queries = spread.seeds, spread.queries
            rows.append(
                PowerRow(
                    name,
                    size,
                    detectable_difference(spread, seeds, queries),
                    queries_needed(spread, size, seeds) if size else None,
                    seeds_needed(spread, size, queries) if size else None,
                    spread,
                )
            )
        return rows


def jaccard(a: Mapping[str, set[str]], b: Mapping[str, set[str]]) -> Values:
    """Return the Jaccard overlap of two teachers' negatives for each sample that both have, in sorted order.

    >>> jaccard({"q": {"a", "b"}, "r": {"c"}}, {"q": {"b", "c"}, "r": {"c"}}).round(3).tolist()
    [0.333, 1.0]
    """
    shared = sorted(a.keys() & b.keys())
    both = [(a[key], b[key]) for key in shared if a[key] or b[key]]
    return np.array([len(one & other) / len(one | other) for one, other in both], np.float64)


def overlaps(negatives: Mapping[str, Mapping[str, set[str]]]) -> dict[tuple[str, str], float]:
    """Return the mean Jaccard overlap of each pair of teachers {teacher: {sample: negative ids}} (the paper's table 6)."""
    pairs: Sequence[tuple[str, str]] = list(combinations(negatives, 2))
    found = {(a, b): jaccard(negatives[a], negatives[b]) for a, b in pairs}
    return {pair: float(values.mean()) if values.size else float("nan") for pair, values in found.items()}
