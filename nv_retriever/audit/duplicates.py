"""Copies: of documents, of positives, of queries in the corpus, and between what is trained on and what is evaluated."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.data.dataset import Dataset
from nv_retriever.data.leakage import find_leakage
from nv_retriever.data.minhash import near_duplicate_pairs
from nv_retriever.ragged import join
from nv_retriever.search.types import Exclusions, Reason

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Duplicates:
    """Counts over the corpus and the audited split."""

    documents: int
    duplicate_documents: int
    """Documents whose text view another document has too (after normalisation)."""
    near_duplicate_pairs: int
    """Pairs of different contents that are nearly the same (word shingles, Jaccard estimated by MinHash)."""
    near_duplicate_documents: int
    """Documents in such pairs."""
    unknown_near_duplicates: int
    """(query, document) pairs where a document nearly repeats a positive and is not excluded: likely false negatives."""
    query_copies: int
    """Documents whose text is a query's of this split."""
    repeated_queries: int
    """Queries of this split whose text another query of the data set has too."""
    excluded: dict[str, int]
    """(query, document) pairs of the split that are never candidates, by reason."""
    leakage: dict[str, dict[str, int]]
    """For every other split: queries of this one that it has word for word, and positives that both have."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self)


def count_duplicates(dataset: Dataset, split: str, exclusions: Exclusions, threshold: float | None) -> Duplicates:
    """Return the counts; `exclusions` are the split's, `threshold` the Jaccard similarity of near-duplicates (or None)."""
    rows = dataset.query_rows(split)
    hashes = dataset.query_hashes
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    group_sizes = np.bincount(dataset.groups, minlength=dataset.n_documents)
    reasons, totals = np.unique(exclusions.reasons, return_counts=True)
    texts = np.isin(dataset.document_hashes, hashes[rows]) | np.isin(dataset.document_text_hashes, hashes[rows])
    near = np.empty((0, 2), np.int64) if threshold is None else _near_pairs(dataset, threshold)
    return Duplicates(
        documents=dataset.n_documents,
        duplicate_documents=int((group_sizes[dataset.groups] > 1).sum()),
        near_duplicate_pairs=len(near),
        near_duplicate_documents=len(np.unique(near)),
        unknown_near_duplicates=_unknown(dataset, split, exclusions, near),
        query_copies=int(texts.sum()),
        repeated_queries=int((counts[inverse[rows]] > 1).sum()),
        excluded={Reason(r).name.lower(): int(n) for r, n in zip(reasons.tolist(), totals.tolist(), strict=True)},
        leakage={other: _leakage(dataset, split, other) for other in dataset.splits if other != split},
    )


def _near_pairs(dataset: Dataset, threshold: float) -> Rows:
    """Return pairs of document rows of different content groups, (n, 2)."""
    firsts = np.flatnonzero(dataset.groups == np.arange(dataset.n_documents))
    pairs = near_duplicate_pairs(dataset.document_texts(firsts), threshold)
    return np.stack([firsts[pairs.first], firsts[pairs.second]], axis=1)


def _unknown(dataset: Dataset, split: str, exclusions: Exclusions, near: Rows) -> int:
    """Count pairs (query, near-duplicate of one of its positives) that nothing excludes."""
    if not len(near):
        return 0
    queries = exclusions.queries.astype(np.int64)
    excluded = np.unique(queries * dataset.n_documents + exclusions.documents)
    positive = np.isin(exclusions.reasons, (Reason.POSITIVE, Reason.SAME_QUERY))
    both = np.concatenate([near, near[:, ::-1]])
    owner, pair = join(dataset.groups[exclusions.documents[positive]], both[:, 0])  # `near` are the first of their groups
    near_owner, documents = join(both[pair, 1], dataset.groups)
    found = np.unique(queries[positive][owner[near_owner]] * dataset.n_documents + documents)
    return int((~np.isin(found, excluded)).sum())


def _leakage(dataset: Dataset, split: str, other: str) -> dict[str, int]:
    leakage = find_leakage(dataset, other, dataset, split)
    return {"queries": len(leakage.queries), "positives": len(leakage.positives)}
