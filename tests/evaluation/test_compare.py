from __future__ import annotations

import json

import numpy as np
import pytest
from brute_force_scorer import BruteForceScorer, MemoryDataset

from flows.settings import build_config
from nv_retriever.errors import ArtifactError, InputError
from nv_retriever.evaluation.build import write_evaluation
from nv_retriever.evaluation.compare import compare
from nv_retriever.evaluation.config import EvaluationConfig
from nv_retriever.evaluation.results import EvaluationResult
from nv_retriever.evaluation.statistics import randomisation_test

CONFIG = EvaluationConfig(metrics=("nDCG@10", "RR@10"), resamples=2000)


@pytest.fixture
def folders(tmp_path):
    generator = np.random.default_rng(0)
    labels = {f"q{i:02d}": {f"d{i:02d}": 1} for i in range(40)}
    dataset = MemoryDataset.of([f"d{i:02d}" for i in range(60)], labels, labels)
    noise, found = generator.normal(size=(40, 60)), {}
    for name, signal in (("base", 1.0), ("better", 3.0), ("same", 1.0)):
        scores = noise + signal * np.eye(40, 60)
        write_evaluation(tmp_path / name, BruteForceScorer(scores), dataset, "test", CONFIG, name)
        found[name] = tmp_path / name
    return found


def test_the_difference_is_the_second_minus_the_first(folders):
    found = compare(folders["base"], folders["better"], "nDCG@10", CONFIG.resamples)
    base, better = (EvaluationResult.open(folders[name]) for name in ("base", "better"))
    assert (found.a, found.b) == pytest.approx((base.metrics["nDCG@10"], better.metrics["nDCG@10"]))
    assert found.difference == pytest.approx(found.b - found.a)
    assert 0 < found.low < found.difference < found.high and found.better
    assert not compare(folders["better"], folders["base"], "nDCG@10", CONFIG.resamples).better
    differences = better.per_query("nDCG@10")[1] - base.per_query("nDCG@10")[1]
    assert found.p == randomisation_test(differences, 2000) < 0.01
    assert found.queries == 40
    json.dumps(found.model_dump(), allow_nan=False)


def test_a_system_compared_with_itself(folders):
    found = compare(folders["base"], folders["same"], "RR@10", CONFIG.resamples)
    assert (found.difference, found.low, found.high, found.p, found.better) == (0.0, 0.0, 0.0, 1.0, False)


def test_other_queries_and_unknown_metrics_are_refused(folders, tmp_path):
    labels = {"q00": {"d00": 1}}
    dataset = MemoryDataset.of(["d00"], labels, labels)
    write_evaluation(tmp_path / "other", BruteForceScorer([[1.0]]), dataset, "dev", CONFIG, "m")
    with pytest.raises(InputError, match="same queries"):
        compare(folders["base"], tmp_path / "other", "nDCG@10", CONFIG.resamples)
    with pytest.raises(InputError, match="nDCG@10, RR@10"):
        compare(folders["base"], folders["better"], "R@100", CONFIG.resamples)
    with pytest.raises(ArtifactError):
        compare(folders["base"], tmp_path / "nothing", "nDCG@10", CONFIG.resamples)
    lone = compare(tmp_path / "other", tmp_path / "other", "nDCG@10", CONFIG.resamples)
    assert not lone.better
    assert (lone.low, lone.high, lone.p) == (None, None, 1.0)


def test_the_confidence_of_an_interval_is_an_argument_and_no_setting_of_a_run(folders):
    usual, narrow = (
        compare(folders["base"], folders["better"], "nDCG@10", CONFIG.resamples, confidence=level) for level in (0.95, 0.5)
    )
    assert usual == compare(folders["base"], folders["better"], "nDCG@10", CONFIG.resamples)
    assert usual.low < narrow.low < narrow.high < usual.high
    with pytest.raises(InputError, match="unknown key 'confidence'"):
        build_config({"evaluation": {"confidence": 0.5}}, "test")
