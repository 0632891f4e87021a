"""What search takes and gives: exclusions, limits, the k best documents, and the protocol of everything that scores."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from nv_retriever.ragged import owners, ranges, row_offsets

IntArray = npt.NDArray[np.int32]
OffsetArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]

ScoreKind = Literal["cosine", "dot", "bm25", "logit"]
"""Scores of different kinds are never compared or added; rules refuse kinds for which they have no meaning."""


class Reason(IntEnum):
    """Why a document can never be a negative of a query; the smallest applicable one is recorded."""

    POSITIVE = 1
    """Labelled relevant, in any split."""
    DUPLICATE = 2
    """The content of a positive under another id."""
    QUERY_ID = 3
    """The document with the query's own id."""
    QUERY_TEXT = 4
    """The document whose text is the query's."""
    SAME_QUERY = 5
    """A positive (or its duplicate) of another query with the same text."""


@dataclass(frozen=True)
class Exclusions:
    """For each searched query, the documents that are never candidates, in compressed rows.

    Row i of the search excludes `documents[offsets[i]:offsets[i + 1]]`, ascending, without repeats.
    """

    offsets: OffsetArray
    """(n_queries + 1,) int64."""
    documents: IntArray
    """(n_excluded,) int32 document rows."""
    reasons: npt.NDArray[np.uint8]
    """(n_excluded,) values of Reason."""

    @property
    def queries(self) -> IntArray:
        """(n_excluded,) int32, the row of the search that excludes each document."""
        return owners(self.offsets)

    def take(self, rows: npt.NDArray[np.integer]) -> Exclusions:
        """Return the exclusions of some of the queries, in the order of `rows`."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        _, inside = ranges(self.offsets[rows], lengths)
        return Exclusions(row_offsets(lengths), self.documents[inside], self.reasons[inside])

    @staticmethod
    def none(n_queries: int) -> Exclusions:
        """Return exclusions that exclude nothing."""
        return Exclusions(np.zeros(n_queries + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.uint8))


@dataclass(frozen=True)
class TopK:
    """The best allowed documents of each query, by descending score, ties by ascending document row (= document id)."""

    documents: IntArray
    """(n_queries, k) int32 document rows; -1 where there are no more."""
    scores: FloatArray
    """(n_queries, k) float32; NaN where documents is -1."""
    above: OffsetArray
    """(n_queries,) int64: allowed documents that score at or above the query's limit (0 without limits); the rank of
    column j, counted from 1 over all allowed documents, is above + j + 1."""

    @staticmethod
    def empty(n_queries: int, k: int) -> TopK:
        """Return a result without documents, to be filled."""
        documents, scores = np.full((n_queries, k), -1, np.int32), np.full((n_queries, k), np.nan, np.float32)
        return TopK(documents, scores, np.zeros(n_queries, np.int64))


class Scorer(Protocol):
    """A teacher over one corpus and one set of queries: retrieves, and scores given pairs with the same numbers.

    A pair's score depends on the pair alone: not on batches, blocks, threads or the other pairs of a call.
    """

    score_kind: ScoreKind
    n_queries: int
    n_documents: int

    def search(
        self, query_rows: npt.NDArray[np.integer], k: int, excluded: Exclusions, limits: FloatArray | None = None
    ) -> TopK:
        """Return the k best allowed documents of each query, strictly below its limit where limits are given.

        `query_rows` (n,), `excluded` has n rows in the same order, `limits` (n,) float32.
        """
        ...

    def score_pairs(self, query_rows: npt.NDArray[np.integer], document_rows: npt.NDArray[np.integer]) -> FloatArray:
        """Return the scores of pairs, (n,) and (n,) -> (n,) float32."""
        ...
