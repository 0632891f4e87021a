"""A small data set on disk, ingested and searched by the real stages, with scores that a test writes down."""

import json
from pathlib import Path

import numpy as np
from matrix import MatrixScorer

from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.candidates import write_candidates
from nv_retriever.search.config import SearchConfig


def write_beir(folder, documents, queries, qrels):
    """documents {id: text or (title, text)}, queries {id: text}, qrels {split: [(query, document, grade)]}."""
    (folder / "qrels").mkdir(parents=True)
    pairs = {key: value if isinstance(value, tuple) else ("", value) for key, value in documents.items()}
    lines = [json.dumps({"_id": key, "title": title, "text": text}) for key, (title, text) in pairs.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "queries.jsonl").write_text("".join(json.dumps({"_id": k, "text": t}) + "\n" for k, t in queries.items()))
    for split, rows in qrels.items():
        body = "".join(f"{query}\t{document}\t{grade}\n" for query, document, grade in rows)
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + body)


def ingest(folder, documents, queries, qrels, **config) -> Dataset:
    source, target = Path(folder) / "beir", Path(folder) / "dataset"
    write_beir(source, documents, queries, qrels)
    target.mkdir()
    write_dataset(target, DatasetConfig(source=str(source), **config))
    return Dataset.open(target)


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
