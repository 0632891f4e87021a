"""One tiny encoder for all tests of a session; tests that change it copy it."""

import os

import pytest
from tiny_models import write_encoder

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("models") / "tiny")
