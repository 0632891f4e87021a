"""Homes on shared storage: what one machine built another has, half an upload is nothing."""

import json
import shutil

import numpy as np
import pytest
from things import REF, make, on_the_shelf

from nv_retriever.artifacts import MANIFEST, ArtifactStore
from nv_retriever.embedding.vector_store import VectorStore, text_keys
from nv_retriever.errors import ArtifactError, InputError
from nv_retriever.files import write_json
from nv_retriever.remote_store import ORIGIN, origin, resolve_home


def test_a_file_that_another_process_has_mapped_is_replaced_and_not_written_to(machine):
    """Two processes of one machine fetch the same shard: the second has not seen that the first has it."""
    store = machine("here")
    folder = store.root / "vectors" / "space"
    VectorStore(folder).commit(text_keys(["a"], ""), np.ones((1, 4), np.float32))
    store.remote.push(store.root, "vectors/space")
    names = [path.name for path in folder.iterdir()]
    before = {name: (folder / name).stat().st_ino for name in names}
    store.remote.download("vectors/space", folder, names)
    assert all((folder / name).stat().st_ino != before[name] for name in names)
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_what_one_machine_built_another_opens(machine, url):
    assert not machine("one").is_complete(REF)
    make(machine("one"))
    other = machine("two")
    assert other.is_complete(REF) and other.manifest(REF)["counts"] == {"rows": 1}
    assert not other.folder(REF).exists(), "nothing is fetched before it is opened"
    assert make(other).complete
    folder = other.open(REF)
    assert (folder / "model" / "weights.bin").read_bytes() == b"weights" * 1000
    assert other.check(REF) is None and other.references("thing") == [REF]
    assert origin(other.home) == url and ORIGIN not in json.dumps(other.manifest(REF)["files"])


def test_half_an_upload_is_nothing(machine):
    make(machine("one"))
    fs, path = on_the_shelf(machine("one"), MANIFEST)
    fs.rm_file(path)
    other = machine("two")
    assert not other.is_complete(REF) and other.references("thing") == []
    with pytest.raises(ArtifactError, match="does not exist"):
        other.open(REF)
    assert not make(other).complete
    assert machine("three").open(REF)


def test_what_could_not_be_uploaded_is_uploaded_by_the_next_run(machine):
    """The process was killed, or the storage went away, after the end of a build and before its upload."""
    here = machine("one")
    (here.home / ORIGIN).rename(here.home / "unreachable")
    assert not make(ArtifactStore(here.home)).complete
    (here.home / "unreachable").rename(here.home / ORIGIN)
    assert not machine("two").is_complete(REF)
    assert make(here).complete
    assert machine("two").open(REF)


def test_what_is_there_is_not_written_again_under_its_readers(machine):
    """Two machines built the same at once, with other bits: the manifest that a third one has read stays true."""
    here = machine("one")
    with here.build(REF) as build:
        write_json(build.folder / "data.json", {"content": 2})
        make(machine("two"))
    assert len(here.remote.names(str(REF))) == 2, "the manifest, and the files of one upload"
    assert json.loads((machine("three").open(REF) / "data.json").read_text()) == {"content": 1}


def test_a_damaged_copy_is_fetched_again(machine):
    make(machine("one"))
    other = machine("two")
    (other.open(REF) / "data.json").write_text("[]")
    assert not other.is_complete(REF)
    assert make(other).complete
    assert json.loads((other.open(REF) / "data.json").read_text()) == {"content": 1}


def test_a_removed_copy_costs_a_fetch_and_a_discarded_artifact_is_gone(machine):
    store = machine("one")
    make(store)
    fs, path = on_the_shelf(store, MANIFEST)
    shutil.rmtree(store.home / "artifacts")
    assert machine("one").open(REF)
    store.discard(REF)
    assert not machine("one").is_complete(REF) and not machine("two").is_complete(REF)
    assert not fs.exists(path.removesuffix(f"/{MANIFEST}"))


def test_vectors_embedded_on_one_machine_are_known_on_another(machine):
    one, two = machine("one"), machine("two")
    keys, vectors = text_keys(["a", "b", "c"], "salt"), np.eye(3, dtype=np.float32)
    shards = VectorStore(one.root / "vectors" / "space")
    shards.commit(keys[:2], vectors[:2])
    one.remote.push(one.root, "vectors/space")
    shards.commit(keys[2:], vectors[2:])
    one.remote.push(one.root, "vectors/space")
    (one.root / "vectors" / "space" / "uncommitted.vectors.npy").write_bytes(b"half")
    one.remote.push(one.root, "vectors/space")
    two.remote.pull(two.root, "vectors/space")
    found = VectorStore(two.root / "vectors" / "space")
    assert np.array_equal(found.read(found.locate(keys)), vectors)
    assert len(list(found.folder.iterdir())) == 4


def test_an_ordinary_home_has_no_origin(tmp_path, monkeypatch):
    monkeypatch.setenv("NVR_HOME", str(tmp_path / "home"))
    assert resolve_home() == str(tmp_path / "home")
    assert ArtifactStore(resolve_home()).remote is None
    with pytest.raises(InputError, match=r"without '\?'"):  # DuckDB and MLflow would write elsewhere, after hours of work
        resolve_home("what?")


def test_an_unknown_url_is_one_clear_message(tmp_path, monkeypatch):
    monkeypatch.setenv("NVR_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="fsspec"):
        _ = ArtifactStore(resolve_home("nowhere://shelf")).remote
