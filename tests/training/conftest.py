import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from training_data import make_bert, make_dataset, make_mining

from nv_retriever.data.dataset import Dataset


@pytest.fixture(scope="session")
def animals(tmp_path_factory: pytest.TempPathFactory, write_beir: Callable[[Path], Path]) -> Dataset:
    folder = tmp_path_factory.mktemp("animals")
    return make_dataset(folder / "dataset", write_beir(folder / "beir"))


@pytest.fixture(scope="session")
def mined(tmp_path_factory: pytest.TempPathFactory, animals: Dataset) -> Path:
    return make_mining(tmp_path_factory.mktemp("mining") / "mining", animals)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT with dropout, as a plain sentence-transformers folder."""
    return make_bert(tmp_path_factory.mktemp("bert"))
