"""Real collections, read a second time by the test itself, with real ir_measures: an evaluation from scratch."""

from __future__ import annotations

import csv
import json
import zlib
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from brute_force_scorer import BruteForceScorer

from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.evaluation.build import write_evaluation
from nv_retriever.evaluation.config import EvaluationConfig
from nv_retriever.evaluation.results import EvaluationResult

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def bag_of_words(texts):
    """Hashed words, weighed by their rarity: vectors of real texts in a second, without a model."""
    counts = np.zeros((len(texts), 1024), np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            counts[row, zlib.crc32(word.encode()) % 1024] += 1
    return np.log1p(counts)


def from_scratch(folder, metrics):
    corpus = [json.loads(line) for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
    queries = [json.loads(line) for line in (folder / "queries.jsonl").open(encoding="utf-8")]
    with (folder / "qrels" / "test.tsv").open(encoding="utf-8") as file:
        qrels = [ir_measures.Qrel(q, d, int(grade)) for q, d, grade in list(csv.reader(file, delimiter="\t"))[1:]]
    asked = {qrel.query_id for qrel in qrels}
    documents, questions = similarity(
        [f"{row.get('title', '')} {row['text']}".strip() for row in corpus], [row["text"] for row in queries]
    )
    scores = questions @ documents.T
    run = [
        ir_measures.ScoredDoc(query["_id"], corpus[d]["_id"], float(scores[q, d]))
        for q, query in enumerate(queries)
        if query["_id"] in asked
        for d in np.argpartition(-scores[q], 150)[:150]
    ]
    return {str(m): v for m, v in ir_measures.calc_aggregate(metrics, qrels, run).items()}


def similarity(documents, queries):
    matrix, asked = bag_of_words(documents), bag_of_words(queries)
    rarity = np.log(len(documents) / (1 + (matrix > 0).sum(axis=0)))
    matrix, asked = matrix * rarity, asked * rarity
    return tuple(part / np.linalg.norm(part, axis=1, keepdims=True) for part in (matrix, asked))


@pytest.mark.parametrize("name", ["cranfield", "cisi"])
def test_agrees_with_an_evaluation_from_scratch(name, tmp_path):
    if not (DATA / name).exists():
        pytest.skip("the shared data sets are not here")
    write_dataset(tmp_path / "dataset", DatasetConfig(source=str(DATA / name)))
    dataset = Dataset.open(tmp_path / "dataset")
    documents, queries = similarity(dataset.document_texts(), dataset.query_texts(dataset.query_rows("test")))
    scorer = BruteForceScorer(queries @ documents.T)
    summary = write_evaluation(tmp_path / "e", scorer, dataset, "test", EvaluationConfig(), "bag of words")
    expected = from_scratch(DATA / name, [ir_measures.parse_measure(metric) for metric in summary["metrics"]])
    assert summary["metrics"] == pytest.approx(expected, abs=2e-4)
    assert summary["identical_ids"] == 0  # queries and documents are both numbered 1, 2, …: that makes them no twins
    assert summary["metrics"]["nDCG@10"] > 0.1
    dropped = EvaluationConfig(ignore_identical_ids=True)
    harmed = write_evaluation(tmp_path / "beir", scorer, dataset, "test", dropped, "bag of words")
    assert harmed["identical_ids"] == summary["queries"]
    ids, values = EvaluationResult.open(tmp_path / "e").per_query("AP@100")
    assert len(ids) == summary["queries"] == len(values)
