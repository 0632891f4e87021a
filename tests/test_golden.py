"""What every stage writes for one small data set, beside its version: a change of either without the other is a mistake.

The cache takes an artifact of an older release for one of this where the version is the same. Whoever changes what a stage
writes raises its version and puts the new values here. Models differ in the last digits between processors: their
values are compared approximately.
"""

import hashlib
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from nv_retriever.config import Runtime
from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.build import write_embeddings
from nv_retriever.embedding.shards import Vectors
from nv_retriever.evaluation.build import write_evaluation
from nv_retriever.evaluation.config import EvaluationConfig
from nv_retriever.mining.build import write_mining
from nv_retriever.mining.config import MiningConfig
from nv_retriever.plan.stages import (
    CandidatesSpec,
    CheckpointSpec,
    DatasetSpec,
    EmbeddingSpec,
    EvaluationSpec,
    MiningSpec,
    StudentSpec,
)
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.candidates import write_candidates
from nv_retriever.search.config import SearchConfig
from nv_retriever.search.vectors import VectorScorer
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.open import open_embedder
from nv_retriever.training.build import run_training_job, write_student
from nv_retriever.training.config import StudentConfig, TrainingConfig
from nv_retriever.training.job import Mined, TrainingJob

CPU = Runtime(device="cpu")
METRICS = ("nDCG@10", "R@20", "RR@10", "AP@20")


def digest(rows):
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, write_beir):
    folder = tmp_path_factory.mktemp("golden")
    write_dataset(folder, DatasetConfig(source=str(write_beir(folder / "animals"))))
    return Dataset.open(folder)


def vectors_of(n_queries):
    rng = np.random.default_rng(0)
    queries, documents = (rng.standard_normal((n, 16)).astype(np.float32) for n in (n_queries, 40))
    return VectorScorer(Vectors.from_array(queries), Vectors.from_array(documents), "dot", CPU)


@pytest.fixture(scope="module")
def scorer():
    return vectors_of(20)


@pytest.fixture(scope="module")
def candidates(dataset, scorer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidates")
    write_candidates(folder, scorer, dataset, "train", SearchConfig(depth=10), "vectors")
    return Candidates.open(folder)


@pytest.fixture(scope="module")
def mined(dataset, scorer, candidates, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mining")
    config = MiningConfig(rule="topk-shift(1)", selection="sample(2, of=5)")
    write_mining(folder, dataset, "train", [candidates], lambda _: scorer, config, 0, "run")
    return folder


def test_dataset(dataset):
    labels = dataset.positives()
    rows = [
        *zip(dataset.document_ids.tolist(), dataset.document_texts(), strict=True),
        *zip(dataset.query_ids.tolist(), dataset.query_texts(), strict=True),
        *zip(labels.query_rows.tolist(), labels.document_rows.tolist(), strict=True),
    ]
    assert (DatasetSpec.version, digest(rows)) == (4, "6d28ecf6227dda29")


def test_candidates(candidates):
    rows = [candidates.documents.tolist(), candidates.scores.tolist(), candidates.excluded.scores.tolist()]
    assert (CandidatesSpec.version, digest(rows)) == (1, "dd2b7b811ee31217")


def test_mining(mined):
    assert (MiningSpec.version, digest(pq.read_table(mined / "triples.parquet").to_pylist())) == (5, "9a28ec598a36d53d")


def test_embeddings(dataset, tmp_path):
    embedder = open_embedder("minilm", EncoderConfig(precision="fp32"), runtime=CPU)
    write_embeddings(tmp_path / "queries", dataset, "test", embedder, tmp_path / "vectors")
    found = Vectors.open(tmp_path / "queries").take(np.array([0]))[0, :4]
    assert EmbeddingSpec.version == 1
    assert found.tolist() == pytest.approx([-0.008334, -0.031424, 0.024397, 0.016056], abs=1e-4)


def test_evaluation(dataset, tmp_path):
    write_evaluation(tmp_path, vectors_of(10), dataset, "test", EvaluationConfig(depth=20, metrics=METRICS), "vectors")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert EvaluationSpec.version == 2
    assert metrics == pytest.approx(dict(zip(METRICS, (0.05, 0.4, 1 / 30, 0.05317982), strict=True)), abs=1e-6)


def test_checkpoint(dataset, mined, tmp_path):
    encoder = EncoderConfig(query_max_length=16, document_max_length=32)
    write_student(tmp_path / "student", StudentConfig(encoder=encoder, layers=1))
    config = TrainingConfig(max_steps=3, batch_size=4)
    job = TrainingJob([Mined(dataset, "train", mined)], tmp_path / "student" / "model", config, seed=0, runtime=CPU)
    run_training_job(tmp_path / "trained", job)
    lines = [json.loads(line) for line in (tmp_path / "trained" / "log.jsonl").read_text().splitlines()]
    assert (StudentSpec.version, CheckpointSpec.version) == (4, 2)
    assert [line["loss"] for line in lines if "loss" in line] == pytest.approx([1.1622, 0.8546], abs=0.02)
