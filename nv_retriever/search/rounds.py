"""Searches of the same query below several limits share one row of the matrix product, if they exclude the same.

Rows that repeat a query are laid out in rounds: the first of every query, the second of those that have one, and so on, with
the queries of most rows first. Then a round's rows belong to the first columns of the product, in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nv_retriever.ragged import Index
from nv_retriever.search.types import Exclusions
from nv_retriever.splitmix import GOLDEN, scramble

_MULTIPLE = 8
"""Of the columns: matrix products are fast for whole vectors of them."""


@dataclass(frozen=True)
class Rounds:
    """Rows by round; round r takes `spans[r]` of them, row j of it searches column j of the product."""

    first: Index
    """(n_queries,) for each column the row, as given, that its query comes from."""
    spans: list[slice]
    places: Index
    """(n_rows,) where each row, as given, lies in the order of the rounds."""
    columns: Index
    """(rows of all rounds,) the column of each, in the order of the rounds."""

    def within(self, low: int, high: int) -> list[slice]:
        """Return which rows of each round belong to columns `low` to before `high`."""
        parts = [slice(min(span.start + low, span.stop), min(span.start + high, span.stop)) for span in self.spans]
        return [part for part in parts if part.start < part.stop]

    def least(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the smallest value of each column's rows, (rows of all rounds,) -> (n_columns,)."""
        smallest = values[self.spans[0]].copy()
        for span in self.spans[1:]:
            some = smallest[: span.stop - span.start]
            np.minimum(some, values[span], out=some)
        return smallest


def rounds_of(query_rows: npt.NDArray[np.integer], excluded: Exclusions) -> Rounds:
    """Return the rounds of rows that search for queries, and exclude what row i of `excluded` says.

    The columns are filled up to a multiple of 8 with some that no given row uses. Rows share a column where their query
    and its exclusions are the same.
    """
    hashes = _hashes(query_rows, excluded)
    _, first, query_of, counts = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    if len(first) == len(query_rows) or not _same(query_rows, excluded, first[query_of]):
        first, counts = np.arange(len(query_rows)), np.ones(len(query_rows), np.int64)
        query_of = first
    by_count = np.argsort(-counts, kind="stable")
    column = np.empty(len(counts), np.int64)
    column[by_count] = np.arange(len(counts))
    order = np.argsort(query_of, kind="stable")
    number = np.empty(len(query_rows), np.int64)
    number[order] = np.arange(len(query_rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    lengths = np.bincount(number)
    lengths[0] += -lengths[0] % _MULTIPLE
    stops = np.cumsum(lengths)
    spans = [slice(int(stop - length), int(stop)) for stop, length in zip(stops, lengths, strict=True)]
    places = (stops - lengths)[number] + column[query_of]
    return Rounds(first[by_count], spans, places, np.concatenate([np.arange(length) for length in lengths]))


def _hashes(query_rows: npt.NDArray[np.integer], excluded: Exclusions) -> npt.NDArray[np.uint64]:
    """Return a number of each row for its query and what it excludes, (n,); others are the same once in 2^64 pairs."""
    sums = np.append(np.uint64(0), np.cumsum(scramble(excluded.documents.astype(np.uint64) + GOLDEN)))
    return scramble(sums[excluded.offsets[1:]] - sums[excluded.offsets[:-1]]) + query_rows.astype(np.uint64)


def _same(query_rows: npt.NDArray[np.integer], excluded: Exclusions, first: Index) -> bool:
    """Return whether every row has the query of its first row, and excludes what that excludes."""
    lengths = np.diff(excluded.offsets)
    if (query_rows != query_rows[first]).any() or (lengths != lengths[first]).any():
        return False
    return bool(np.array_equal(excluded.documents, excluded.take(first).documents))
