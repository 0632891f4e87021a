"""The plan: what would run and why, without running it."""

import pytest

from flows.settings import build_config
from flows.staleness import explain_plan
from nv_retriever.artifacts import ArtifactStore
from nv_retriever.data.build import write_dataset
from nv_retriever.errors import InputError
from nv_retriever.plan.pipeline import plan_run
from nv_retriever.plan.stages import DatasetSpec


def test_a_data_set_that_lacks_a_planned_split_is_said_once_it_is_ingested(tmp_path, write_beir):
    folder = write_beir(tmp_path / "animals")
    home = tmp_path / "home"
    config = build_config({"dataset": {"source": str(folder)}, "student": {"layers": 1}}, "test")
    assert all(stage["why"] == "never built" for stage in explain_plan(config, str(home))["stages"])
    (folder / "qrels" / "train.tsv").unlink()
    dataset = plan_run(config := build_config(config.model_dump(), "test")).trained.dataset
    with ArtifactStore(home).build(dataset.ref) as build:
        write_dataset(build.folder, config.dataset)
    with pytest.raises(InputError, match="train"):
        explain_plan(config, str(home))


def test_a_plan_says_at_once_what_ingestion_would_say_of_the_first_records(tmp_path):
    (tmp_path / "pairs.jsonl").touch()
    config = build_config({"dataset": {"source": str(tmp_path / "pairs.jsonl")}}, "test")
    with pytest.raises(InputError, match="at least one of its documents, found none"):
        explain_plan(config, str(tmp_path / "home"))
    assert not (tmp_path / "home").exists()


def test_an_artifact_of_another_version_is_said_to_be_one(tmp_path, write_beir, monkeypatch):
    config = build_config({"dataset": {"source": str(write_beir(tmp_path / "animals"))}, "student": {"layers": 1}}, "test")
    with monkeypatch.context() as before:
        before.setattr(DatasetSpec, "version", 0)
        dataset = plan_run(config).trained.dataset
        with ArtifactStore(tmp_path / "home").build(dataset.ref) as build:
            build.info["spec"] = dataset.describe()
    ingest = explain_plan(config, str(tmp_path / "home"))["stages"][0]
    assert ingest["why"] == f"changed: made by another version of nvr (0 → {DatasetSpec.version})"
