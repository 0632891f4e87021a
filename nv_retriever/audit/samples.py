"""Samples with one visible positive, and the ranked candidates that a miner would see if the other labels were unknown.

No search is needed: the candidate table holds the best allowed documents of every query, and every document that its
labels exclude was scored directly, so the hidden ones are put back at their own scores. A hidden document below the last
row of a full table is left out: unknown documents may lie between, so the table proves nothing about its rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nv_retriever.mining.randomness import IdKeys, mix
from nv_retriever.ragged import owners, row_offsets
from nv_retriever.search.types import FloatArray, IntArray, OffsetArray

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Labelled:
    """The documents that a query's labels exclude, with their scores; rows of one query lie together, ascending.

    Positives and their duplicates only: what is excluded for another reason (the query itself, a quarantined vector)
    stays excluded however few labels are known.
    """

    offsets: OffsetArray
    """(n_queries + 1,)."""
    documents: IntArray
    """(n,) document rows."""
    scores: FloatArray
    """(n,), NaN where the teacher has none."""
    groups: IntArray
    """(n,) content groups: a document of the visible positive's group stays excluded as its duplicate."""
    visible: BoolArray
    """(n,) a positive of the audited split, which may be the one that is shown."""

    def where(self, mask: BoolArray) -> Labelled:
        """Return the rows that `mask` (n,) selects."""
        offsets = row_offsets(mask)[self.offsets]
        return Labelled(offsets, self.documents[mask], self.scores[mask], self.groups[mask], self.visible[mask])

    def take(self, queries: npt.NDArray[np.integer]) -> Labelled:
        """Return the rows of some queries (ascending, without repeats), which become 0, 1, ..."""
        mask = np.zeros(len(self.offsets) - 1, bool)
        mask[queries] = True
        kept = self.where(np.repeat(mask, np.diff(self.offsets)))
        offsets = np.concatenate([kept.offsets[queries], kept.offsets[-1:]])
        return Labelled(offsets, kept.documents, kept.scores, kept.groups, kept.visible)

    @property
    def queries(self) -> IntArray:
        """(n,) the query of each row."""
        return owners(self.offsets)


@dataclass(frozen=True)
class Samples:
    """(query, visible positive) pairs, by query, then document row."""

    queries: IntArray
    """(n,) indices into the split's queries."""
    documents: IntArray
    """(n,) the visible positive."""
    groups: IntArray
    """(n,) its content group."""
    scores: FloatArray
    """(n,) its score: the anchor."""

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, rows: slice | npt.NDArray[np.integer]) -> Samples:
        """Return some of the samples."""
        return Samples(self.queries[rows], self.documents[rows], self.groups[rows], self.scores[rows])


@dataclass(frozen=True)
class Ranked:
    """The candidates of some samples in rank order, hidden positives among them; column j has rank j + 1."""

    documents: IntArray
    """(n, width), -1 padded."""
    scores: FloatArray
    """(n, width), descending, NaN padded."""
    hidden: BoolArray
    """(n, width): a positive whose label is hidden, or its duplicate."""
    exhausted: BoolArray
    """(n,): nothing lies below the last column, the corpus ends here."""


def draw(
    labelled: Labelled,
    keys: IdKeys,
    seed: int,
    per_query: int | None = None,
    limit: int | None = None,
    several: bool = True,
) -> Samples:
    """Return the samples of the queries that have positives of at least two content groups (or of all queries).

    With `per_query` or `limit`, those with the smallest hash of (seed, query id, document id) are taken. Positives without
    a finite score are never visible.
    """
    queries = labelled.queries
    mask = labelled.visible & np.isfinite(labelled.scores)
    if several:
        finite = np.isfinite(labelled.scores)
        n_groups = _groups_per_query(queries[finite], labelled.groups[finite], len(labelled.offsets) - 1)
        mask &= n_groups[queries] > 1
    rows = np.flatnonzero(mask)
    if per_query is not None or (limit is not None and len(rows) > limit):
        hashes = mix(seed, keys.queries[queries[rows]], keys.documents[labelled.documents[rows]])
        order = np.lexsort((rows, hashes))
        if per_query is not None:
            by_query = order[np.argsort(queries[rows][order], kind="stable")]
            place = np.empty(len(rows), np.int64)
            place[by_query] = _places(queries[rows][by_query])
            order = order[place[order] < per_query]
        rows = np.sort(rows[order[:limit]])
    return Samples(queries[rows], labelled.documents[rows], labelled.groups[rows], labelled.scores[rows])


def _groups_per_query(queries: IntArray, groups: IntArray, n_queries: int) -> npt.NDArray[np.int64]:
    pairs = np.unique(np.stack([queries, groups], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=n_queries)


def _places(sorted_keys: IntArray) -> npt.NDArray[np.int64]:
    """Return each element's place within its run of equal keys."""
    positions = np.arange(len(sorted_keys))
    starts = np.flatnonzero(np.diff(sorted_keys, prepend=-1))
    return positions - np.repeat(starts, np.diff(np.append(starts, len(sorted_keys))))


def rank(
    samples: Samples,
    labelled: Labelled,
    table_documents: IntArray,
    table_scores: FloatArray,
    exhausted: BoolArray,
) -> Ranked:
    """Return the candidates of each sample as a miner would rank them that knows the visible positive only.

    `table_documents`, `table_scores` (n_queries, depth), -1 and NaN padded; `exhausted` (n_queries,) says where the
    table reaches the end of the corpus. Order: score, then document row.
    """
    documents, scores = table_documents[samples.queries], table_scores[samples.queries]
    ended = exhausted[samples.queries]
    starts = labelled.offsets[samples.queries]
    lengths = labelled.offsets[samples.queries + 1] - starts
    columns = np.arange(int(lengths.max(initial=0)))
    there = columns < lengths[:, None]
    rows = np.where(there, starts[:, None] + columns, 0)
    hidden_documents, hidden_scores = labelled.documents[rows], labelled.scores[rows]
    back = there & np.isfinite(hidden_scores) & (labelled.groups[rows] != samples.groups[:, None])
    if documents.shape[1]:
        floor, last = scores[:, -1:], documents[:, -1:]
        above = (hidden_scores > floor) | ((hidden_scores == floor) & (hidden_documents < last))
        back &= above | ended[:, None]
    else:
        back &= ended[:, None]
    documents = np.concatenate([documents, np.where(back, hidden_documents, -1)], axis=1)
    scores = np.concatenate([scores, np.where(back, hidden_scores, np.nan)], axis=1)
    hidden = np.concatenate([np.zeros_like(table_documents[samples.queries], dtype=bool), back], axis=1)
    order = np.lexsort((documents, -scores), axis=1)
    width = int((documents >= 0).sum(axis=1).max(initial=0))
    order = order[:, :width]
    return Ranked(
        np.take_along_axis(documents, order, axis=1),
        np.take_along_axis(scores, order, axis=1),
        np.take_along_axis(hidden, order, axis=1),
        ended,
    )


def blocks(n: int, width: int, cells: int = 1 << 21) -> Iterator[slice]:
    """Yield slices of rows so that rows x width stays near `cells`."""
    step = max(1, cells // max(width, 1))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
