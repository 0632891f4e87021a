"""What an audit hides: the documents that labels alone exclude, and samples that show one positive of a query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nv_retriever.data.dataset import Dataset
from nv_retriever.mining.randomness import IdKeys, mix
from nv_retriever.ragged import owners, row_offsets
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.types import FloatArray, IntArray, OffsetArray, Reason

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


def labelled_of(dataset: Dataset, split: str, candidates: Candidates) -> Labelled:
    """Return the documents that labels alone exclude: what comes back where the labels are not known.

    A document that has the query's text, or its id where the search excludes those, stays excluded.
    """
    excluded = candidates.excluded
    by_label = np.isin(excluded.reasons, (Reason.POSITIVE, Reason.DUPLICATE))
    rows = dataset.query_rows(split)
    texts = dataset.query_hashes[rows][excluded.queries]
    copies = (dataset.document_hashes[excluded.documents] == texts) | (
        dataset.document_text_hashes[excluded.documents] == texts
    )
    if (candidates.info or {}).get("exclude_same_id", True):
        copies |= dataset.document_ids[excluded.documents] == dataset.query_ids[rows][excluded.queries]
    mask = by_label & ~copies
    return Labelled(
        excluded.offsets,
        excluded.documents,
        excluded.scores,
        dataset.groups[excluded.documents],
        excluded.in_split & (excluded.reasons == Reason.POSITIVE),
    ).where(mask)


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
