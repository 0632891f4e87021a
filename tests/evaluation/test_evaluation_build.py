from __future__ import annotations

import gzip
import json

import ir_measures
import numpy as np
import pytest
from brute_force_scorer import BruteForceScorer, MemoryDataset
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.settings import build_config
from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.evaluation import build
from nv_retriever.evaluation.build import identical_ids, write_evaluation
from nv_retriever.evaluation.config import METRICS, EvaluationConfig
from nv_retriever.evaluation.metrics import parse_metrics
from nv_retriever.evaluation.results import EvaluationResult
from nv_retriever.evaluation.run_file import strictly_descending
from nv_retriever.search.exclusions import build_exclusions
from nv_retriever.search.types import Reason

CONFIG = EvaluationConfig(metrics=("nDCG@10", "R@100", "RR@10", "AP@100"))


def read_run(folder, unpacked):
    unpacked.write_bytes(gzip.decompress((folder / "run.trec.gz").read_bytes()))
    return list(ir_measures.read_trec_run(str(unpacked)))


def qrels_of(dataset, leave_out_without_positive=True):
    labels = dataset.labels
    if leave_out_without_positive:
        labels = {q: docs for q, docs in labels.items() if any(g >= 1 for g in docs.values())}
    return [ir_measures.Qrel(q, d, g) for q, docs in labels.items() for d, g in docs.items()]


@pytest.fixture
def small():
    documents = [f"d{i:02d}" for i in range(30)]
    queries = [f"q{i}" for i in range(5)] + ["d07"]
    labels = {
        "q0": {"d00": 2, "d05": 1, "d06": 0},
        "q1": {"d01": 1},
        "q2": {"d02": 3, "d03": 1, "d04": 1},
        "q3": {"d08": 0},  # judged, nothing relevant
        "q4": {"d29": 1},
        "d07": {"d08": 1, "d07": 1},
    }
    return MemoryDataset.of(documents, queries, labels)


def test_values_are_those_of_ir_measures_on_the_written_run(small, tmp_path):
    scorer = BruteForceScorer(np.random.default_rng(0).normal(size=(5, 30)).round(1))  # many ties
    summary = write_evaluation(tmp_path / "e", scorer, small, "test", CONFIG, "random")
    run = read_run(tmp_path / "e", tmp_path / "run.trec")
    again = ir_measures.calc([ir_measures.parse_measure(m) for m in CONFIG.metrics], qrels_of(small), run)
    assert summary["metrics"] == pytest.approx({str(m): v for m, v in again.aggregated.items()}, abs=1e-12)
    result = EvaluationResult.open(tmp_path / "e")
    for metric in CONFIG.metrics:
        ids, values = result.per_query(metric)
        expected = {v.query_id: v.value for v in again.per_query if str(v.measure) == metric}
        assert dict(zip(ids, values, strict=True)) == pytest.approx(expected)
        assert summary["metrics"][metric] == pytest.approx(values.mean())
    assert json.loads((tmp_path / "e" / "metrics.json").read_text()) == summary["metrics"]
    assert (summary["queries"], summary["queries_left_out"]) == (5, 1)


def test_hand_computed_values(tmp_path):
    dataset = MemoryDataset.of(["a", "b", "c"], ["q"], {"q": {"b": 2, "c": 1}})
    write_evaluation(tmp_path, BruteForceScorer([[0.9, 0.8, 0.1]]), dataset, "test", CONFIG, "m")
    metrics = EvaluationResult.open(tmp_path).metrics
    dcg, ideal = 2 / np.log2(3) + 1 / np.log2(4), 2 / np.log2(2) + 1 / np.log2(3)
    assert metrics["nDCG@10"] == pytest.approx(dcg / ideal)
    assert metrics["RR@10"] == pytest.approx(1 / 2)
    assert metrics["AP@100"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert metrics["R@100"] == pytest.approx(1.0)


def test_equal_scores_are_measured_in_row_order_by_every_provider(tmp_path):
    """trec_eval would put c first, the MS MARCO script a: both must see the order of the search."""
    for best, expected in (("a", 1.0), ("b", 1 / 2), ("c", 1 / 3)):
        dataset = MemoryDataset.of(["a", "b", "c"], ["q"], {"q": {best: 1}})
        config = EvaluationConfig(metrics=("RR", "RR@10", "AP"))
        write_evaluation(tmp_path / best, BruteForceScorer([[0.0, 0.0, 0.0]]), dataset, "test", config, "m")
        assert EvaluationResult.open(tmp_path / best).metrics == pytest.approx(
            dict.fromkeys(("RR", "RR@10", "AP"), expected)
        )


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_strictly_descending_keeps_the_order_and_survives_text(scores):
    ordered = np.sort(np.array(scores, np.float32))[::-1][None]
    strict = strictly_descending(ordered)
    assert (np.diff(strict[0]) < 0).all()
    np.testing.assert_allclose(strict, ordered, rtol=1e-5, atol=1e-30)
    text = np.array([float(f"{value:.9g}") for value in strict[0].tolist()]).astype(np.float32)
    assert np.array_equal(text, strict[0])


@pytest.mark.parametrize(
    ("rule", "same_text", "best"),
    [(True, False, "d08"), (False, True, "d07"), ("auto", True, "d08"), ("auto", False, "d07")],
)
def test_document_with_the_querys_id_is_dropped_or_kept(small, tmp_path, rule, same_text, best):
    scores = np.zeros((5, 30))
    scores[0, 7], scores[0, 8] = 1.0, 0.5  # query rows of the split: d07, q0, q1, q2, q4
    if same_text:
        small.texts.update({"document d07": "one", "query d07": "one"})
    config = EvaluationConfig(ignore_identical_ids=rule)
    summary = write_evaluation(tmp_path / "e", BruteForceScorer(scores), small, "test", config, "m")
    run = read_run(tmp_path / "e", tmp_path / "run.trec")
    assert next(line.doc_id for line in run if line.query_id == "d07") == best
    assert summary["identical_ids"] == int(best == "d08")


@pytest.mark.parametrize(("asked", "dropped"), [("body {}", 3), ("Title {} BODY {}", 3), ("title {}", 0)])
def test_a_query_that_is_its_document_with_or_without_the_title_is_dropped(tmp_path, asked, dropped):
    """Rows come in the order of the ids; every query's positive is the next document."""
    source = tmp_path / "set"
    (source / "qrels").mkdir(parents=True)
    documents = [{"_id": str(n), "title": f"title {n}", "text": f"body {n}"} for n in range(3)]
    queries = [{"_id": str(n), "text": asked.replace("{}", str(n))} for n in range(3)]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (source / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = "".join(f"{n}\t{(n + 1) % 3}\t1\n" for n in range(3))
    (source / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + labels)
    write_dataset(tmp_path / "dataset", DatasetConfig(source=str(source)))
    dataset = Dataset.open(tmp_path / "dataset")
    rows = dataset.query_rows("test")
    assert len(identical_ids(dataset, rows, "auto").documents) == dropped
    mined = build_exclusions(dataset, "test", exclude_same_id=False)
    assert np.count_nonzero(mined.reasons == Reason.QUERY_TEXT) == dropped, "evaluation and mining agree"


def test_blocks_change_nothing(small, tmp_path, monkeypatch):
    scorer = BruteForceScorer(np.random.default_rng(1).normal(size=(5, 30)))
    whole = write_evaluation(tmp_path / "whole", scorer, small, "test", CONFIG, "m")
    monkeypatch.setattr(build, "_SEARCH_PAIRS", 200)
    monkeypatch.setattr(build, "_MEASURE_PAIRS", 100)
    assert write_evaluation(tmp_path / "blocks", scorer, small, "test", CONFIG, "m") == whole
    for name in ("run.trec.gz", "per_query.parquet", "metrics.json", "evaluation.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "blocks" / name).read_bytes()


def test_corpus_smaller_than_the_depth_and_ids_with_spaces(tmp_path):
    dataset = MemoryDataset.of(["a b", "c"], ["q 1"], {"q 1": {"a b": 1}})
    summary = write_evaluation(tmp_path, BruteForceScorer([[0.1, 0.2]]), dataset, "test", CONFIG, "my model")
    assert summary["metrics"]["RR@10"] == 0.5
    lines = gzip.decompress((tmp_path / "run.trec.gz").read_bytes()).decode().splitlines()
    assert lines == ["q%201 Q0 c 1 0.200000003 my%20model", "q%201 Q0 a%20b 2 0.100000001 my%20model"]


def test_a_query_without_results_counts_as_zero(tmp_path):
    dataset = MemoryDataset.of(["a"], ["a", "q"], {"a": {"a": 1}, "q": {"a": 1}})
    config = CONFIG.model_copy(update={"ignore_identical_ids": True})
    summary = write_evaluation(tmp_path, BruteForceScorer([[1.0], [1.0]]), dataset, "test", config, "m")
    assert summary["metrics"]["nDCG@10"] == 0.5


@pytest.mark.parametrize("name", ["nonsense@10", "nDCG@", "", "nDCG@x", "nDCG@0", "R@1000"])
def test_wrong_metrics_are_input_errors(name):
    with pytest.raises(InputError, match="metrics: expected"):
        parse_metrics([name], depth=100)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (("NDCG@10", "MAP", "MRR@10", "R(rel=2)@50"), ("nDCG@10", "AP", "RR@10", "R(rel=2)@50")),
        (("NDCG@10", "nDCG@10"), ("nDCG@10",)),
        (("nDCG@1", "P@1"), ("nDCG@1", "P@1")),
        (METRICS, METRICS),
    ],
)
def test_metrics_are_configured_under_the_names_that_results_have(small, tmp_path, given, stored):
    config = EvaluationConfig(metrics=given)
    assert config.metrics == stored
    write_evaluation(tmp_path, BruteForceScorer(np.ones((5, 30))), small, "test", config, "m")
    assert tuple(EvaluationResult.open(tmp_path).metrics) == stored


@pytest.mark.parametrize(
    "setting", [{"metrics": ["nonsense@10"]}, {"metrics": ["R@1000"]}, {"metrics": []}, {"depth": 20}, {"metrics": ["R@0"]}]
)
def test_wrong_metrics_are_refused_before_anything_runs(setting):
    with pytest.raises(InputError, match="metrics: expected"):
        build_config({"evaluation": setting}, "test")


@pytest.mark.parametrize(
    ("name", "why"), [("ERR@10", "numeric ids"), ("nDCG(dcg='exp-log2')@10", "numeric ids"), ("Accuracy@10", "not defined")]
)
def test_measures_that_have_no_value_for_some_queries_are_refused(name, why):
    with pytest.raises(InputError, match=why):
        build_config({"evaluation": {"metrics": [name]}}, "test")


def test_every_other_provider_takes_text_ids(tmp_path):
    measures = ("AP", "SetF", "Judged@10", "Compat(p=0.9)", "RR@10", "infAP", "Rprec", "NumRelRet", "nDCG(gains={1:2})@10")
    dataset = MemoryDataset.of(["a b", "c"], ["q 1"], {"q 1": {"a b": 1}})
    config = EvaluationConfig(metrics=measures)
    metrics = write_evaluation(tmp_path, BruteForceScorer([[0.1, 0.2]]), dataset, "test", config, "m")["metrics"]
    assert tuple(metrics) == config.metrics and np.isfinite(list(metrics.values())).all()


def test_other_measures_and_repeats():
    assert [str(m) for m in parse_metrics(["P@5", "Success@10", "nDCG@10", "P@5", "R(rel=2)@50"], 100)] == [
        "P@5",
        "Success@10",
        "nDCG@10",
        "R(rel=2)@50",
    ]


def test_a_scorer_of_another_corpus_is_refused(small, tmp_path):
    with pytest.raises(InputError, match="30 documents"):
        write_evaluation(tmp_path, BruteForceScorer(np.zeros((5, 29))), small, "test", CONFIG, "m")
