"""A Scorer over a whole score matrix, and a data set in memory: oracles that know nothing of blocks or shards."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nv_retriever.search.types import Exclusions, TopK


class BruteForceScorer:
    """Scores from a matrix (n_queries, n_documents)."""

    score_kind = "cosine"

    def __init__(self, scores):
        self.scores = np.asarray(scores, np.float32)
        self.n_queries, self.n_documents = self.scores.shape

    @classmethod
    def from_vectors(cls, queries, documents):
        return cls(np.asarray(queries, np.float32) @ np.asarray(documents, np.float32).T)

    def search(self, query_rows, k, excluded: Exclusions, limits=None):
        documents = np.full((len(query_rows), k), -1, np.int32)
        scores = np.full((len(query_rows), k), np.nan, np.float32)
        for index, row in enumerate(query_rows):
            out = set(excluded.documents[excluded.offsets[index] : excluded.offsets[index + 1]].tolist())
            order = np.argsort(-self.scores[row], kind="stable")  # ties by row
            limit = np.inf if limits is None else limits[index]
            ranked = [d for d in order.tolist() if d not in out and self.scores[row, d] < limit][:k]
            documents[index, : len(ranked)], scores[index, : len(ranked)] = ranked, self.scores[row, ranked]
        return TopK(documents, scores, np.zeros(len(query_rows), np.int64))

    def score_pairs(self, query_rows, document_rows):
        return self.scores[query_rows, document_rows]


@dataclass
class _Qrels:
    query_rows: np.ndarray
    document_rows: np.ndarray
    grades: np.ndarray


@dataclass
class MemoryDataset:
    """What evaluation reads of `nv_retriever.data.dataset.Dataset`; one split."""

    document_ids: np.ndarray
    query_ids: np.ndarray
    labels: dict  # {query id: {document id: grade}}
    name: str = "memory"
    min_grade: int = 1
    texts: dict = field(default_factory=dict)  # {"document ID" or "query ID": hash of the text}
    info: dict = field(default_factory=lambda: {"digest": "0" * 32})

    @classmethod
    def of(cls, documents, queries, labels, **more):
        return cls(np.array(sorted(documents), object), np.array(sorted(queries), object), labels, **more)

    @property
    def n_documents(self):
        return len(self.document_ids)

    @property
    def n_queries(self):
        return len(self.query_ids)

    @property
    def document_text_hashes(self):
        return np.array([self.texts.get(f"document {name}", "another").encode() for name in self.document_ids], "S16")

    @property
    def document_hashes(self):
        return self.document_text_hashes

    @property
    def query_hashes(self):
        return np.array([self.texts.get(f"query {name}", "text").encode() for name in self.query_ids], "S16")

    def qrels(self, split=None):
        query, document = list(self.query_ids), list(self.document_ids)
        rows = [(query.index(q), document.index(d), g) for q, docs in self.labels.items() for d, g in docs.items()]
        columns = np.array(sorted(rows), np.int32).reshape(-1, 3).T
        return _Qrels(*columns)

    def query_rows(self, split):
        qrels = self.qrels()
        return np.unique(qrels.query_rows[qrels.grades >= self.min_grade]).astype(np.int32)
