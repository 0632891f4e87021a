"""Vectors on disk for the benchmark of mining: synthetic clusters, around the labels of a data set where one is given."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

DIM = 384


def prepare(folder: Path, options: argparse.Namespace) -> None:
    """Ingest the data set and write its vectors: an embeddings artifact each for documents and queries."""
    from nv_retriever.data.build import write_dataset
    from nv_retriever.data.config import DatasetConfig
    from nv_retriever.data.dataset import Dataset

    source = options.dataset or synthetic_source(folder / "source", options.queries, options.documents)
    (folder / "dataset").mkdir()
    write_dataset(folder / "dataset", DatasetConfig(source=str(source)))
    write_clusters(folder, Dataset.open(folder / "dataset"))


def synthetic_source(folder: Path, queries: int, documents: int) -> Path:
    """Write a BEIR folder of numbered texts; query i's positive is document i."""
    (folder / "qrels").mkdir(parents=True)
    for name, kind, n in (("corpus", "document", documents), ("queries", "query", queries)):
        rows = [{"_id": f"{kind[0]}{i:06}", "title": "", "text": f"The {kind} of number {i}"} for i in range(n)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = "".join(f"q{i:06}\td{i % documents:06}\t1\n" for i in range(queries))
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + labels)
    return folder


def write_clusters(folder: Path, dataset: Any) -> None:
    """Write vectors: groups of clusters, clusters around a query's positives, documents around clusters, queries near."""
    from nv_retriever.embedding.shards import write_vectors

    rng = np.random.default_rng(0)
    rows, labels = dataset.query_rows("train"), dataset.positives("train")
    cluster = np.full(dataset.n_documents, -1, np.int64)
    known = dataset.positives()
    cluster[known.document_rows] = known.query_rows
    size = max(1, round(len(known.document_rows) / max(1, len(np.unique(known.query_rows)))))
    rest = np.flatnonzero(cluster < 0)
    cluster[rest] = dataset.n_queries + np.arange(len(rest)) // size
    centres = near(rng, noise(rng, -(-int(cluster.max() + 1) // 20))[np.arange(cluster.max() + 1) // 20], 0.35)
    documents = near(rng, centres[cluster], 0.7 if size > 1 else 0.0)
    first = labels.document_rows[np.searchsorted(labels.query_rows, rows)]
    queries = near(rng, documents[first], 1.0)
    for name, array in (("documents", documents), ("queries", queries)):
        write_vectors(folder / name, len(array), DIM, lambda a, b, array=array: array[a:b], {"score_kind": "cosine"})


def noise(rng: np.random.Generator, n: int) -> np.ndarray:
    return near(rng, np.zeros((n, DIM), np.float32), 1.0)


def near(rng: np.random.Generator, centres: np.ndarray, distance: float) -> np.ndarray:
    """Return unit vectors around others."""
    rows = centres + np.float32(distance / DIM**0.5) * rng.standard_normal(centres.shape, dtype=np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
