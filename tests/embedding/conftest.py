"""Shared by the tests of embedding: a small data set, and the tiny models of the teachers' tests."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "teachers"))


@pytest.fixture
def animals(small_beir, tmp_path):
    """The small data set, ingested."""
    return ingest(small_beir, tmp_path / "dataset")


def ingest(source, folder):
    from nv_retriever.data.build import write_dataset
    from nv_retriever.data.config import DatasetConfig
    from nv_retriever.data.dataset import Dataset

    folder.mkdir(parents=True)
    write_dataset(folder, DatasetConfig(source=str(source)))
    return Dataset.open(folder)


@pytest.fixture(scope="session")
def small_encoder(tmp_path_factory):
    from tiny_models import write_encoder

    return write_encoder(tmp_path_factory.mktemp("encoders") / "small")
