"""A small data set on disk, ingested and searched by the real stages, with scores that a test writes down."""

from pathlib import Path

import numpy as np
from matrix import MatrixScorer

from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.candidates import write_candidates
from nv_retriever.search.config import SearchConfig


def score_matrix(dataset, split, scores, default=0.0):
    """scores {query id: {document id: score}} -> (n_queries of the split, n_documents) by rows."""
    matrix = np.full((len(dataset.query_rows(split)), dataset.n_documents), default, np.float32)
    queries = {key: row for row, key in enumerate(dataset.query_ids[dataset.query_rows(split)])}
    documents = {key: row for row, key in enumerate(dataset.document_ids)}
    for query, row in scores.items():
        for document, score in row.items():
            matrix[queries[query], documents[document]] = score
    return matrix


def search(folder, dataset, split, matrix, depth=100, kind="cosine", teacher="teacher", **config):
    """Return (candidates, scorer)."""
    scorer, target = MatrixScorer(matrix, kind), Path(folder) / f"candidates-{teacher}"
    target.mkdir()
    write_candidates(target, scorer, dataset, split, SearchConfig(depth=depth, **config), teacher)
    return Candidates.open(target), scorer
