from __future__ import annotations

import json

import numpy as np
import pytest
from brute_force_scorer import BruteForceScorer, MemoryDataset

from flows.evaluation import evaluation
from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.evaluation.build import write_evaluation
from nv_retriever.evaluation.config import EvaluationConfig
from nv_retriever.evaluation.mteb_result import export_evaluation, mteb_result, mteb_scores, write_mteb_result
from nv_retriever.evaluation.mteb_task import evaluate_with_mteb, open_for_mteb
from nv_retriever.evaluation.results import EvaluationResult
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.teachers.config import EncoderConfig, TeacherConfig
from nv_retriever.teachers.encoder import open_encoder


def exported(tmp_path):
    labels = {f"q{i}": {f"d{i}": 1} for i in range(4)}
    dataset = MemoryDataset.of([f"d{i}" for i in range(9)], labels, labels, name="scifact")
    scorer = BruteForceScorer(np.random.default_rng(0).random((4, 9)))
    write_evaluation(tmp_path / "evaluation", scorer, dataset, "test", EvaluationConfig(), "our/model")
    return export_evaluation(tmp_path, EvaluationResult.open(tmp_path / "evaluation"), "abc123")


def test_layout_and_names(tmp_path):
    path = exported(tmp_path)
    assert path == tmp_path / "results" / "our__model" / "abc123" / "SciFact.json"
    written = json.loads(path.read_text())
    (entry,) = written["scores"]["test"]
    assert entry["main_score"] == entry["ndcg_at_10"] > 0
    assert {"recall_at_100", "mrr_at_10", "map_at_100"} <= set(entry)
    assert json.loads((path.parent / "model_meta.json").read_text()) == {"name": "our/model", "revision": "abc123"}


def test_names_of_all_metrics():
    metrics = {"nDCG@10": 0.1234567, "P@5": 0.2, "Success@1": 0.3, "AP": 0.4, "nDCG(judged_only=True)@10": 0.5}
    assert mteb_scores(metrics) == {"ndcg_at_10": 0.123457, "precision_at_5": 0.2, "hit_rate_at_1": 0.3}


def test_without_the_main_score_there_is_no_result():
    with pytest.raises(InputError, match="nDCG@10"):
        mteb_result("SciFact", "test", {"R@100": 0.5}, "r")


def test_no_path_leaves_the_folder(tmp_path):
    path = write_mteb_result(tmp_path, mteb_result("../x", "test", {"nDCG@10": 0.5}, "r"), "/a/../../b", "../r")
    assert path.resolve().is_relative_to(tmp_path.resolve() / "results")


def test_mtebs_own_loader_reads_it(tmp_path):
    mteb = pytest.importorskip("mteb")
    path = exported(tmp_path)
    entry = json.loads(path.read_text())["scores"]["test"][0]
    result = mteb.results.TaskResult.from_disk(path, load_historic_data=False)
    assert result.get_score() == pytest.approx(entry["main_score"])
    (model,) = mteb.ResultCache(cache_path=tmp_path).load_results(include_remote=False).model_results
    assert (model.model_name, model.model_revision) == ("our/model", "abc123")
    assert [task.task_name for task in model.task_results] == ["SciFact"]


def test_mteb_itself_finds_the_same_numbers(tmp_path):
    """mteb's evaluator with the same vectors: 40 documents, 6 queries, graded labels, no two scores equal."""
    pytest.importorskip("mteb")
    generator = np.random.default_rng(0)
    source = tmp_path / "tiny"
    (source / "qrels").mkdir(parents=True)
    rows = [{"_id": f"d{i:02d}", "title": f"title {i}", "text": f"document {i}"} for i in range(40)]
    (source / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [{"_id": f"q{i}", "text": f"query {i}"} for i in range(6)]
    (source / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    labels = "".join(f"q{i}\td{j:02d}\t{1 + j % 2}\n" for i in range(6) for j in generator.choice(40, 5, replace=False))
    (source / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + labels)
    write_dataset(tmp_path / "dataset", DatasetConfig(source=str(source)))
    dataset = Dataset.open(tmp_path / "dataset")
    vectors = {text: generator.normal(size=8) for text in (*dataset.document_texts(), *dataset.query_texts())}
    vectors = {text: vector / np.linalg.norm(vector) for text, vector in vectors.items()}
    scorer = BruteForceScorer.from_vectors(
        [vectors[text] for text in dataset.query_texts(dataset.query_rows("test"))],
        [vectors[text] for text in dataset.document_texts()],
    )
    config = EvaluationConfig(metrics=("nDCG@10", "R@100", "RR@10", "AP@100", "P@5"))
    summary = write_evaluation(tmp_path / "ours", scorer, dataset, "test", config, "lookup")
    theirs = evaluate_with_mteb(_lookup(vectors), dataset, "test", tmp_path / "mteb")
    for name, value in mteb_scores(summary["metrics"]).items():
        assert theirs[name] == pytest.approx(value, abs=2e-5), name


def test_mteb_measures_what_we_measure(tmp_path, small_beir):
    """With prompts and a length of their own, which another embedding of the same texts would not have."""
    pytest.importorskip("mteb")
    write_dataset(tmp_path / "dataset", DatasetConfig(source=str(small_beir)))
    dataset = Dataset.open(tmp_path / "dataset")
    said = {"query_prompt": "the salmon and the newt: ", "query_max_length": 9, "document_max_length": 9}
    encoder = EncoderConfig(model="minilm", precision="fp32", **said)
    ours = open_encoder(encoder)
    queries, documents = dataset.query_texts(dataset.query_rows("test")), dataset.document_texts()
    values = []
    for one in (ours, open_encoder(EncoderConfig(model="minilm", precision="fp32"))):
        scorer = BruteForceScorer.from_vectors(one.encode_queries(queries), one.encode_documents(documents))
        folder = tmp_path / str(len(values))
        values.append(write_evaluation(folder, scorer, dataset, "test", EvaluationConfig(), "m")["metrics"]["nDCG@10"])
    theirs = evaluate_with_mteb(
        open_for_mteb(TeacherConfig(name="minilm", encoder=encoder)), dataset, "test", tmp_path / "mteb"
    )
    assert theirs["ndcg_at_10"] == pytest.approx(values[0], abs=2e-5) and abs(values[0] - values[1]) > 1e-2


@pytest.mark.parametrize(
    ("model", "said", "found"),
    [
        ("minilm", {"normalize": False}, "others"),
        ("minilm", {"pooling": "cls"}, "others"),
        ("minilm", {"query_max_length": 9}, "9, 256"),
        ("bm25", {}, "bm25"),
    ],
)
def test_what_mteb_cannot_measure_is_said_before_anything_runs(small_beir, tmp_path, model, said, found):
    pytest.importorskip("mteb")
    config = PipelineConfig(dataset={"source": str(small_beir)}, student={"encoder": said})
    with pytest.raises(InputError, match=f"--with-mteb: expected .* found {found}"):
        evaluation.fn(model=model, config=config, home=str(tmp_path / "home"), with_mteb=True)
    assert not (tmp_path / "home" / "artifacts").exists()


def _lookup(vectors):
    from mteb.models import ModelMeta

    class Lookup:
        mteb_model_meta = ModelMeta.create_empty({"name": "ours/lookup", "revision": "1"})

        def encode(self, inputs, **_):
            return np.stack([vectors[text.strip()] for batch in inputs for text in batch["text"]]).astype(np.float32)

        def similarity(self, a, b):
            return np.asarray(a) @ np.asarray(b).T

        def similarity_pairwise(self, a, b):
            return (np.asarray(a) * np.asarray(b)).sum(axis=1)

    return Lookup()
