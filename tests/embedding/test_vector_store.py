"""The content-keyed store: what was committed is found, what is damaged is dropped, what was killed leaves no trace."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hashing_embedder import hashed_vector
from hypothesis import given, settings
from hypothesis import strategies as st

from nv_retriever.embedding.vector_store import RECORD, DamagedShardError, VectorStore, checksums, text_keys
from nv_retriever.errors import InputError
from nv_retriever.files import ABANDONED_SECONDS

TEXTS = st.lists(st.text(max_size=12), unique=True, max_size=30)


def fill(folder, texts, salt="", dim=8):
    VectorStore(folder).commit(text_keys(texts, salt), np.stack([hashed_vector(text, dim) for text in texts]))


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(TEXTS, max_size=4), wanted=TEXTS)
def test_finds_what_was_committed_and_nothing_else(tmp_path_factory, batches, wanted):
    folder = tmp_path_factory.mktemp("store")
    for texts in batches:
        if texts:
            fill(folder, texts)
    store = VectorStore(folder)
    known = {text for texts in batches for text in texts}
    places = store.locate(text_keys(wanted, ""))
    assert [place >= 0 for place in places] == [text in known for text in wanted]
    found = store.read(places)
    for text, vector in zip(wanted, found, strict=True):
        assert np.array_equal(vector, hashed_vector(text)) if text in known else np.isnan(vector).all()


def test_vectors_of_another_length_are_refused_and_those_there_stay(tmp_path):
    """Else which of the two lengths survives hangs on the shards' random names."""
    fill(tmp_path, ["a"], dim=8)
    with pytest.raises(InputError, match="expected length 8 as before, found 6; if the model"):
        fill(tmp_path, ["b"], dim=6)
    assert (VectorStore(tmp_path).locate(text_keys(["a", "b"], "")) >= 0).tolist() == [True, False]


def test_keys_tell_salts_and_texts_apart():
    keys = [text_keys([text], salt)[0] for text in ("a", "b", "a ", "") for salt in ("", "x", "y")]
    assert len(set(keys)) == len(keys)
    assert text_keys(["\ud800 lone surrogate"], "").shape == (1,)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 7), st.integers(0, 31), st.integers(0, 2))
def test_every_flipped_bit_changes_the_checksum(column, bit, row):
    vectors = np.stack([hashed_vector(str(number)) for number in range(3)])
    flipped = vectors.copy()
    flipped.view(np.uint32)[row, column] ^= np.uint32(1 << bit)
    assert (checksums(vectors) != checksums(flipped)).tolist() == [number == row for number in range(3)]


def test_a_flipped_bit_on_disk_is_noticed_and_dropped(tmp_path, caplog):
    fill(tmp_path, ["a", "b"])
    fill(tmp_path, ["c"])
    damaged = next(path for path in tmp_path.glob("*.vectors.npy") if len(np.load(path)) == 2)
    content = bytearray(damaged.read_bytes())
    content[-3] ^= 1
    damaged.write_bytes(content)
    store = VectorStore(tmp_path)
    with pytest.raises(DamagedShardError) as error:
        store.read(store.locate(text_keys(["a", "b", "c"], "")))
    with caplog.at_level(logging.WARNING):
        store.drop(error.value.name)
    assert "dropped vector shard" in caplog.text
    assert (store.locate(text_keys(["a", "b", "c"], "")) >= 0).tolist() == [False, False, True]
    assert not damaged.exists()


@pytest.mark.parametrize("damage", ["truncated vectors", "truncated keys", "no vectors", "not an array", "other length"])
def test_unreadable_shards_are_dropped_with_a_warning(tmp_path, caplog, damage):
    fill(tmp_path, ["a", "b"])
    keys, vectors = next(tmp_path.glob("*.keys.npy")), next(tmp_path.glob("*.vectors.npy"))
    if damage == "no vectors":
        vectors.unlink()
    elif damage == "not an array":
        keys.write_text("hello")
    elif damage == "other length":
        np.save(vectors, np.zeros((3, 8), np.float32))
    else:
        path = vectors if damage == "truncated vectors" else keys
        path.write_bytes(path.read_bytes()[:-5])
    with caplog.at_level(logging.WARNING):
        store = VectorStore(tmp_path)
    assert len(store) == 0 and "dropped vector shard" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_no_memory_is_left_to_map_is_no_damaged_one(tmp_path):
    """What an endpoint was paid for is not removed because of the state of a process."""
    big = np.lib.format.open_memmap(tmp_path / "big.vectors.npy", mode="w+", dtype=np.float32, shape=(1 << 20, 256))
    del big  # a gibibyte of nothing
    np.save(tmp_path / "big.keys.npy", np.zeros(1 << 20, RECORD))
    script = """
import resource, sys
from pathlib import Path
from nv_retriever.embedding.vector_store import VectorStore
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY))
VectorStore(Path(sys.argv[1]))
"""
    found = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert "Cannot allocate memory" in found.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.keys.npy", "big.vectors.npy"]


def test_a_space_that_is_used_has_the_time_of_its_use(tmp_path):
    fill(tmp_path, ["a"])
    os.utime(tmp_path, (0, 0))
    VectorStore(tmp_path).clean()
    assert tmp_path.stat().st_mtime > 0


def test_vectors_without_keys_are_no_shard_and_go_when_old(tmp_path):
    fill(tmp_path, ["a"])
    next(tmp_path.glob("*.keys.npy")).unlink()
    store = VectorStore(tmp_path)
    store.clean()
    assert len(store) == 0 and len(list(tmp_path.iterdir())) == 1, "another writer may be about to commit"
    old = time.time() - ABANDONED_SECONDS - 60
    os.utime(next(tmp_path.iterdir()), (old, old))
    store.clean()
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
from hashing_embedder import hashed_vector
from nv_retriever.embedding.vector_store import VectorStore, text_keys
for number in range(int(sys.argv[3]), int(sys.argv[3]) + 20):
    texts = [f"text {number}", f"more {number}"]
    VectorStore(Path(sys.argv[2])).commit(text_keys(texts, ""), np.stack([hashed_vector(text) for text in texts]))
"""


def test_concurrent_writers_all_get_in(tmp_path):
    here = str(Path(__file__).resolve().parent)
    command = [sys.executable, "-c", WRITER, here, str(tmp_path)]
    writers = [subprocess.Popen([*command, first]) for first in ("0", "10", "100")]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    store = VectorStore(tmp_path)
    texts = [f"{kind} {number}" for number in [*range(30), *range(100, 120)] for kind in ("text", "more")]
    found = store.read(store.locate(text_keys(texts, "")))
    assert np.array_equal(found, np.stack([hashed_vector(text) for text in texts]))
