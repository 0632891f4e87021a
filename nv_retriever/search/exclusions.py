"""Which documents can never be negatives of a query, from labels, content and ids alone, before any score is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nv_retriever.data.dataset import Dataset
from nv_retriever.ragged import Index, join
from nv_retriever.search.types import Exclusions, Reason

Pairs = tuple[Index, Index]
"""(query, document) columns of equal length."""


def build_exclusions(dataset: Dataset, split: str, exclude_same_id: bool = True) -> Exclusions:
    """Return what the split's queries exclude; row i is query `dataset.query_rows(split)[i]`.

    Positives over all splits, their content groups, the document with the query's id (where `exclude_same_id`), documents
    whose normalised text (or text view) is the query's, and positives (with groups) of every other query with that text.
    """
    rows = dataset.query_rows(split).astype(np.int64)
    known = dataset.positives()
    positives = (known.query_rows.astype(np.int64), known.document_rows.astype(np.int64))
    groups = dataset.groups.astype(np.int64)
    hashes = dataset.query_hashes
    place = np.full(dataset.n_queries, -1, np.int64)
    place[rows] = np.arange(len(rows))

    own = place[positives[0]] >= 0
    mine = (place[positives[0][own]], positives[1][own])
    found: list[tuple[Reason, Pairs]] = [(Reason.POSITIVE, mine), (Reason.DUPLICATE, _with_groups(mine, groups))]
    if exclude_same_id:
        found.append((Reason.QUERY_ID, _same_id(dataset, rows)))
    for of_documents in (dataset.document_hashes, dataset.document_text_hashes):
        found.append((Reason.QUERY_TEXT, _same_hash(hashes[rows], of_documents)))
    found.append((Reason.SAME_QUERY, _with_groups(_positives_of_same_text(rows, hashes, positives), groups)))
    return _compress(found, len(rows), dataset.n_documents)


def _compress(found: list[tuple[Reason, Pairs]], n_queries: int, n_documents: int) -> Exclusions:
    """Sort pairs by query and document; of several reasons for a pair the smallest stays."""
    pairs = np.concatenate([queries * n_documents + documents for _, (queries, documents) in found])
    reasons = np.concatenate([np.full(len(queries), reason, np.int64) for reason, (queries, _) in found])
    keys = np.sort(pairs * 8 + reasons)
    first = np.ones(len(keys), bool)
    first[1:] = keys[1:] >> 3 != keys[:-1] >> 3
    keys = keys[first]
    queries, documents = np.divmod(keys >> 3, max(n_documents, 1))
    offsets = np.searchsorted(queries, np.arange(n_queries + 1)).astype(np.int64)
    return Exclusions(offsets, documents.astype(np.int32), (keys & 7).astype(np.uint8))


def _with_groups(pairs: Pairs, groups: Index) -> Pairs:
    """Return the pairs with every document replaced by all documents of its content group."""
    owner, documents = join(groups[pairs[1]], groups)
    return pairs[0][owner], documents


def _same_id(dataset: Dataset, rows: Index) -> Pairs:
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pa.array(dataset.query_ids[rows], pa.large_string())
    at = pc.index_in(ids, value_set=pa.array(dataset.document_ids, pa.large_string()))
    documents = at.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    queries = np.flatnonzero(documents >= 0)
    return queries, documents[queries]


def _same_hash(of_queries: npt.NDArray[np.bytes_], of_documents: npt.NDArray[np.bytes_]) -> Pairs:
    """Return the pairs of equal 16-byte hashes; joined on the first 8 bytes, compared on all."""
    queries, documents = join(_first_half(of_queries), _first_half(of_documents))
    equal = of_queries[queries] == of_documents[documents]
    return queries[equal], documents[equal]


def _first_half(hashes: npt.NDArray[np.bytes_]) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64)[::2])


def _positives_of_same_text(rows: Index, hashes: npt.NDArray[np.bytes_], positives: Pairs) -> Pairs:
    """Return the positives of all queries that share their text with a searched query, itself included."""
    _, texts, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(counts[texts[rows]] > 1)
    owner, found = join(texts[rows[shared]], texts[positives[0]])
    return shared[owner], positives[1][found]
