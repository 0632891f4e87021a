"""Vectors on disk and in memory answer alike, at every block and shard size."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nv_retriever.embedding import shards
from nv_retriever.embedding.shards import Vectors, write_vectors
from nv_retriever.errors import ArtifactError, InputError


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_ROWS", 10)
    monkeypatch.setattr(shards, "BLOCK_ROWS", 4)


def write(folder, array):
    info = {"model": "m", "score_kind": "dot", "precision": "fp32", "fidelity": None}
    return write_vectors(folder, len(array), array.shape[1], lambda start, stop: array[start:stop], info)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(0, 43), dim=st.integers(1, 5), block=st.integers(1, 50), data=st.data())
def test_disk_memory_and_array_agree(tmp_path_factory, n, dim, block, data):
    array = np.random.default_rng(n * 7 + dim).normal(size=(n, dim)).astype(np.float32)
    folder = tmp_path_factory.mktemp("vectors")
    write(folder, array)
    rows = data.draw(st.lists(st.integers(0, n - 1), max_size=20)) if n else []
    for vectors in (Vectors.open(folder), Vectors.from_array(array, "dot")):
        assert (vectors.n, vectors.dim, vectors.score_kind, len(vectors)) == (n, dim, "dot", n)
        assert np.array_equal(vectors.take(rows), array[rows])
        blocks = list(vectors.blocks(block))
        assert [start for start, _ in blocks] == np.cumsum([0, *(len(part) for _, part in blocks)])[:-1].tolist()
        assert all(0 < len(part) <= block for _, part in blocks)
        assert np.array_equal(np.concatenate([array[:0], *(part for _, part in blocks)]), array)


def test_rows_that_are_not_finite_are_quarantined(tmp_path):
    array = np.ones((25, 3), np.float32)
    array[3, 1], array[24, 0], array[10, 2] = np.nan, np.inf, -np.inf
    assert write(tmp_path, array)["quarantined"] == [3, 10, 24]
    vectors = Vectors.open(tmp_path)
    assert vectors.quarantined.tolist() == [3, 10, 24] == Vectors.from_array(array).quarantined.tolist()
    assert np.isnan(vectors.take([3, 10, 24])).all() and np.isfinite(vectors.take([2, 4])).all()
    json.loads((tmp_path / shards.INFO).read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("rows", [[-1], [25], [0, 99]])
def test_rows_beyond_the_ends(tmp_path, rows):
    write(tmp_path, np.ones((25, 3), np.float32))
    with pytest.raises(IndexError, match="0 to 24"):
        Vectors.open(tmp_path).take(rows)


@pytest.mark.parametrize("damage", ["shard gone", "info gone", "shard truncated", "info wrong"])
def test_incomplete_artifacts_are_refused(tmp_path, damage):
    write(tmp_path, np.ones((25, 3), np.float32))
    info, shard = tmp_path / shards.INFO, tmp_path / shards.shard_name(1)
    if damage == "shard gone":
        shard.unlink()
    elif damage == "info gone":
        info.unlink()
    elif damage == "shard truncated":
        shard.write_bytes(shard.read_bytes()[:-4])
    else:
        info.write_text(info.read_text().replace('"dim": 3', '"dim": 4'))
    with pytest.raises(ArtifactError):
        Vectors.open(tmp_path)


def test_arrays_of_other_shapes_are_refused():
    with pytest.raises(InputError, match="shape"):
        Vectors.from_array(np.ones(3))
