"""The plan: what would run and why, without running it."""

import pytest

from flows.settings import build_config
from flows.staleness import explain_plan
from nv_retriever.artifacts import ArtifactStore
from nv_retriever.data.build import write_dataset
from nv_retriever.errors import InputError
from nv_retriever.plan.pipeline import plan_run


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
