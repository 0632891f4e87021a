"""Which proposed pairs need their exact score: bounds decide the others, as thresholds on the cells of a tile."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nv_retriever.ragged import Index
from nv_retriever.search.ranking import kth_largest, parts
from nv_retriever.search.types import DoubleArray, FloatArray

Mask = npt.NDArray[np.bool_]
_LARGEST = float(np.finfo(np.float32).max)


class Pruning:
    """What the cells of one block say. A cell v of a query bounds the scaled score plus what was added to it:

    v (1 - rounding) - width <= score + added <= v (1 + rounding)
    """

    def __init__(
        self, widths: DoubleArray, added: DoubleArray, scales: DoubleArray, rounding: float, limits: FloatArray | None
    ) -> None:
        """Take what is known of each query, (n,): `scales` is what a scaled score is multiplied with."""
        self.widths, self.added, self.rounding = widths, added, rounding
        self.ties: DoubleArray = 2.0**-22 + 2.0**-148 / scales
        """Scores that are closer may be equal as fp32 numbers."""
        self.scales, self.near = scales, None
        self.above: FloatArray = np.full(len(scales), np.inf, np.float32)
        """Cells that are not smaller are surely at or above the limit."""
        with np.errstate(over="ignore"):
            self.largest: DoubleArray = _LARGEST / scales
            if limits is None:
                return
            given = limits.astype(np.float64)
            scaled: DoubleArray = np.where(given <= -_LARGEST, -np.inf, given) / scales + added
            self.near = _round((scaled - self.ties) / (1 + rounding), -np.inf)
            """Cells that are smaller are surely below the limit."""
            self.above = _round((scaled + widths) / (1 - rounding), np.inf)

    def reach(self, thresholds: FloatArray, rows: slice = slice(None)) -> FloatArray:
        """Return the smallest cells whose documents may reach the thresholds of some rows, (n,); every cell does for NaN."""
        scaled = (thresholds.astype(np.float64) / self.scales[rows] + self.added[rows]) / (1 + self.rounding)
        return _round(np.where(np.isnan(scaled), -np.inf, scaled), -np.inf)

    def undecided(self, queries: slice, query_of: Index, cells: FloatArray, k: int) -> tuple[Mask, Mask]:
        """Return which cells, none surely at or above its limit, need their exact score to find the k best of queries.

        And which of them lead: all where there are limits, else those of the k best, by their bounds. `query_of` (p,) counts
        from the first of `queries`; both masks (p,).
        """
        counts = np.bincount(query_of, minlength=queries.stop - queries.start)
        if counts.max(initial=0) <= k:
            every = np.ones(len(cells), bool)
            return every, every
        order = np.argsort(query_of.astype(np.uint16), kind="stable")
        undecided, leading = np.empty(len(cells), bool), np.empty(len(cells), bool)
        for part, pairs in parts(counts, 0):
            some = order[pairs]
            of_queries = slice(queries.start + part.start, queries.start + part.stop)
            undecided[some], leading[some] = self._undecided(of_queries, cells[some], counts[part], k)
        return undecided, leading

    def _undecided(self, queries: slice, cells: FloatArray, counts: Index, k: int) -> tuple[Mask, Mask]:
        """Return the same of cells that lie by query."""
        if self.near is None:
            kth = kth_largest(cells, counts, k)
            return cells >= np.repeat(self._floors(queries, kth), counts), cells >= np.repeat(kth, counts)
        near = cells >= np.repeat(self.near[queries], counts)
        sure = np.where(near, np.float32(-np.inf), cells)
        undecided = near | (cells >= np.repeat(self._floors(queries, kth_largest(sure, counts, k)), counts))
        return undecided, undecided

    def _floors(self, queries: slice, kth: FloatArray) -> FloatArray:
        """Return the smallest cells that may be among the k best, (q,), from the k-th largest of those below the limit."""
        added, ties, largest = self.added[queries], self.ties[queries], self.largest[queries]
        floors = kth.astype(np.float64) * (1 - self.rounding) - self.widths[queries] - ties
        floors = np.minimum(np.where(floors <= added - largest, -np.inf, floors), added + largest - ties)
        return _round(floors / (1 + self.rounding), -np.inf)


def _round(values: DoubleArray, direction: float) -> FloatArray:
    """Return fp32 numbers that are not on the other side of the values."""
    with np.errstate(over="ignore"):
        return np.nextafter(values.astype(np.float32), np.float32(direction), dtype=np.float32)
