from __future__ import annotations

import pytest

from nv_retriever.data.open import BEIR_NAMES
from nv_retriever.errors import InputError
from nv_retriever.evaluation.beir import (
    BEIR,
    NANO_BEIR,
    beir_set,
    benchmark_parts,
    benchmark_settings,
    find_beir_set,
    mean_metrics,
    mteb_task_name,
)
from nv_retriever.evaluation.config import EvaluationConfig


def test_every_source_is_a_name_that_ingestion_knows_and_none_is_missing():
    sources = [source for one in BEIR for source in one.sources]
    assert sorted(sources) == sorted(BEIR_NAMES)
    assert len(BEIR) == 15
    assert len(NANO_BEIR) == 13


def test_the_rules_that_differ_from_set_to_set():
    assert [one.name for one in BEIR if one.split != "test"] == ["MSMARCO"]
    dropped = {one.name for one in BEIR if one.ignore_identical_ids}
    assert dropped == {"ArguAna", "FEVER", "FiQA2018", "MSMARCO", "Quora"}
    assert len(beir_set("CQADupstack").sources) == len(beir_set("CQADupstack").mteb_tasks) == 12
    assert {one.split for one in NANO_BEIR} == {"train"}


@pytest.mark.parametrize("name", ["quora", "Quora", "QuoraRetrieval", "QUORARETRIEVAL"])
def test_all_names_lead_to_the_set(name):
    assert beir_set(name).name == "Quora"


def test_a_name_brings_its_split_and_rule_and_a_folder_of_that_name_does_not(tmp_path, monkeypatch):
    assert benchmark_settings(EvaluationConfig(), "NanoNQ").split == "train"
    assert benchmark_settings(EvaluationConfig(ignore_identical_ids=False), "arguana").ignore_identical_ids is False
    assert benchmark_settings(EvaluationConfig(), "scifact").ignore_identical_ids is False
    assert benchmark_settings(EvaluationConfig(), "stdlib") == EvaluationConfig(split="test")
    assert benchmark_parts("QuoraRetrieval") == ("quora",) and benchmark_parts("cqadupstack-gis") == ("cqadupstack-gis",)
    assert benchmark_parts("CQADupstackRetrieval") == beir_set("CQADupstack").sources
    (tmp_path / "msmarco").mkdir()
    monkeypatch.chdir(tmp_path)
    assert benchmark_settings(EvaluationConfig(), "msmarco").split == "test" and benchmark_parts("msmarco") == ("msmarco",)


def test_unknown_names():
    assert find_beir_set("nothing") is None
    with pytest.raises(InputError, match="ArguAna"):
        beir_set("nothing")
    assert mteb_task_name("cqadupstack-tex") == "CQADupstackTexRetrieval"
    assert mteb_task_name("CQADupstack") == "CQADupstackRetrieval"


def test_mean_of_the_forums_weighs_them_equally():
    assert mean_metrics([{"a": 0.0, "b": 1.0}, {"a": 1.0}, {"a": 0.5}]) == {"a": 0.5}
    with pytest.raises(ValueError, match="at least one"):
        mean_metrics([])
