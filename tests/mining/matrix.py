"""A teacher whose scores are a matrix: the smallest complete implementation of the Scorer protocol."""

import numpy as np

from nv_retriever.search.types import Exclusions, TopK


class MatrixScorer:
    def __init__(self, scores, kind="cosine"):
        self.scores, self.score_kind = np.asarray(scores, np.float32), kind
        self.n_queries, self.n_documents = self.scores.shape
        self.searched = 0

    def search(self, query_rows, k, excluded, limits=None):
        self.searched += len(query_rows)
        documents = np.full((len(query_rows), k), -1, np.int32)
        scores = np.full((len(query_rows), k), np.nan, np.float32)
        above = np.zeros(len(query_rows), np.int64)
        for i, query in enumerate(query_rows):
            row = self.scores[query]
            barred = set(excluded.documents[excluded.offsets[i] : excluded.offsets[i + 1]].tolist())
            order = sorted(
                (d for d in range(len(row)) if d not in barred and np.isfinite(row[d])), key=lambda d: (-row[d], d)
            )
            if limits is not None:
                above[i] = sum(row[d] >= limits[i] for d in order)
                order = [d for d in order if row[d] < limits[i]]
            order = order[:k]
            documents[i, : len(order)], scores[i, : len(order)] = order, row[order]
        return TopK(documents, scores, above)

    def score_pairs(self, query_rows, document_rows):
        return self.scores[query_rows, document_rows]


def exclusions_of(allowed):
    rows = [np.flatnonzero(~row) for row in allowed]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    documents = np.concatenate([*rows, np.empty(0, np.int32)]).astype(np.int32)
    return Exclusions(offsets, documents, np.ones(len(documents), np.uint8))
