"""A training job goes to other processes as JSON, and comes back the same."""

import json
from dataclasses import replace
from pathlib import Path

from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.training.config import TrainingConfig
from nv_retriever.training.job import Mined, TrainingJob


def test_a_job_survives_json(animals: Dataset, tmp_path: Path) -> None:
    sources = [
        Mined(animals, "train", tmp_path / "a"),
        Mined(animals, "train", tmp_path / "b", "find: ", "", False, 7, (tmp_path / "documents", tmp_path / "queries")),
    ]
    job = TrainingJob(sources, tmp_path / "model", TrainingConfig(epochs=2), 3, Runtime(workers=1))
    back = TrainingJob.from_json(json.loads(json.dumps(job.as_json())))
    assert [source.dataset.folder for source in back.sources] == [animals.folder, animals.folder]
    assert replace(back, sources=[replace(source, dataset=animals) for source in back.sources]) == job
