"""A data set and its candidate table in memory, for arrays in hand: what the stages read from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from nv_retriever.data.dataset import Dataset, Qrels
from nv_retriever.data.text import HashArray, content_hashes
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.exclusions import build_exclusions
from nv_retriever.search.types import IntArray, Reason, Scorer

_BLOCK = 4096


@dataclass(frozen=True)
class MemoryDataset:
    """The part of `Dataset` that exclusions, mining and explanations read, with one split; rows are in canonical order."""

    query_ids: npt.NDArray[np.object_]
    document_ids: npt.NDArray[np.object_]
    labels: Qrels
    query_text: Sequence[str] | None = None
    document_text: Sequence[str] | None = None
    name: str = "arrays"
    splits: tuple[str, ...] = field(default=("train",))

    @property
    def n_queries(self) -> int:
        """All queries."""
        return len(self.query_ids)

    @property
    def n_documents(self) -> int:
        """All documents."""
        return len(self.document_ids)

    def positives(self, split: str | None = None) -> Qrels:
        """Return the positives."""
        return self.labels

    def qrels(self, split: str | None = None) -> Qrels:
        """Return the labels."""
        return self.labels

    def hidden(self) -> Qrels:
        """Return no labels: arrays in hand hide nothing."""
        return Qrels(*(np.empty(0, np.int32) for _ in range(3)))

    def query_rows(self, split: str) -> IntArray:
        """Return the queries that have a positive."""
        return np.unique(self.labels.query_rows)

    def query_texts(self, rows: npt.NDArray[np.integer] | Sequence[int]) -> list[str]:
        """Return texts of queries, empty where none were given."""
        return [self.query_text[row] if self.query_text is not None else "" for row in rows]

    def document_texts(self, rows: npt.NDArray[np.integer] | Sequence[int]) -> list[str]:
        """Return texts of documents, empty where none were given."""
        return [self.document_text[row] if self.document_text is not None else "" for row in rows]

    @property
    def query_hashes(self) -> HashArray:
        """(n_queries,) content hashes; without texts every query is its own content."""
        return _hashes(self.query_text, "query", self.n_queries)

    @property
    def document_hashes(self) -> HashArray:
        """(n_documents,) content hashes; without texts every document is its own content."""
        return _hashes(self.document_text, "document", self.n_documents)

    @property
    def document_text_hashes(self) -> HashArray:
        """The same: documents in memory have no title."""
        return self.document_hashes

    @property
    def groups(self) -> IntArray:
        """(n_documents,) int32 content groups."""
        _, groups = np.unique(self.document_hashes, return_inverse=True)
        return groups.astype(np.int32)

    def as_dataset(self) -> Dataset:
        """Return itself where a Dataset is wanted."""
        return cast(Dataset, self)


def _hashes(texts: Sequence[str] | None, kind: str, number: int) -> HashArray:
    return content_hashes(texts if texts is not None else [f"\0{kind} {row}" for row in range(number)])


def search_in_memory(scorer: Scorer, dataset: MemoryDataset, depth: int, exclude_same_id: bool) -> Candidates:
    """Return the candidate table of the queries that have a positive, as the index stage would write it."""
    exclusions = build_exclusions(dataset.as_dataset(), dataset.splits[0], exclude_same_id)
    number, depth = len(exclusions.offsets) - 1, min(depth, dataset.n_documents)
    documents = np.full((number, depth), -1, np.int32)
    scores = np.full((number, depth), np.nan, np.float32)
    for start in range(0, number, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, number))
        found = scorer.search(rows, depth, exclusions.take(rows))
        documents[rows], scores[rows] = found.documents, found.scores
    return Candidates.from_arrays(
        documents,
        scores,
        exclusions,
        scorer.score_pairs(exclusions.queries, exclusions.documents),
        exclusions.reasons == Reason.POSITIVE,
        teacher="vectors",
        score_kind=scorer.score_kind,
        n_documents=dataset.n_documents,
    )
