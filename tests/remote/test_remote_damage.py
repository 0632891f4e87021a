"""Artifacts on shared storage that are damaged, or are read badly: what is sound stays, what is not is built again."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
from fsspec import register_implementation
from fsspec.implementations.local import LocalFileSystem
from things import REF, make, on_the_shelf

from nv_retriever.artifacts import MANIFEST, ArtifactRef, ArtifactStore
from nv_retriever.errors import ArtifactError
from nv_retriever.files import write_json
from nv_retriever.remote_store import resolve_home
from tasks.mine import sound_minings


def everything(store):
    """Return {path: content} of what lies on shared storage."""
    fs = store.remote.fs
    return {path: fs.cat_file(path) for path in fs.find(store.remote.root)}


@pytest.mark.parametrize("damage", ["missing", "cut", "a manifest that is none", "no files"])
def test_damage_is_told_and_built_again_and_uploaded_by_who_needs_it(damage, machine, caplog):
    make(machine("one"))
    fs, path = on_the_shelf(machine("one"), MANIFEST if "manifest" in damage else "data.json")
    if damage == "missing":
        fs.rm_file(path)
    elif damage == "no files":
        fs.rm(path.rsplit("/", 1)[0], recursive=True)
    else:
        fs.pipe_file(path, b"{}")
    other = machine("two")
    assert not other.is_complete(REF) and other.references("thing") == []
    assert f"damaged artifact, it will be built again: {path.rsplit('/', 2)[0]}" in caplog.text
    assert not make(other).complete
    third = machine("three")
    assert third.is_complete(REF) and json.loads((third.open(REF) / "data.json").read_text()) == {"content": 1}
    assert len(third.remote.names(str(REF))) == 2, "the manifest, and the files of one upload"


def test_other_content_of_the_same_length_is_found_when_it_is_fetched(machine, caplog):
    make(machine("one"))
    fs, path = on_the_shelf(machine("one"), "data.json")
    fs.pipe_file(path, fs.cat_file(path).replace(b"1", b"2"))
    other, before = machine("two"), everything(machine("one"))
    with pytest.raises(ArtifactError, match=r"data\.json is damaged; run again"):
        other.open(REF)
    assert everything(other) == before, "a reader removes nothing"
    assert not other.folder(REF).exists()
    assert not other.is_complete(REF) and "differs from its digests" in caplog.text
    assert not make(other).complete and other.is_complete(REF)
    assert json.loads((machine("three").open(REF) / "data.json").read_text()) == {"content": 1}


def test_another_run_s_damaged_mining_is_left_out_of_the_database(machine, caplog):
    for number in range(2):
        with machine("one").build(ArtifactRef(kind="mining", fingerprint=f"{number}")) as build:
            write_json(build.folder / "run.json", number)
    store = machine("one")
    path = f"{store.remote.root}/artifacts/mining/1/{store.manifest(build.ref)['upload']}/run.json"
    store.remote.fs.pipe_file(path, b"2\n")
    assert [folder.name for folder in sound_minings(machine("two"))] == ["0"]
    assert f"left out of the database: {path} is damaged" in caplog.text


@pytest.mark.parametrize("sound", [True, False])
def test_what_an_older_version_uploaded_is_opened_and_where_damaged_replaced(sound, machine):
    """Its files lie beside the manifest, which names no upload."""
    store = machine("one")
    make(store)
    manifest = store.manifest(REF)
    store.remote.remove(str(REF))
    del manifest["upload"]
    write_json(store.folder(REF) / MANIFEST, manifest)
    store.remote.upload(store.folder(REF), str(REF), [*manifest["files"], MANIFEST])
    if not sound:
        store.remote.fs.rm_file(f"{store.remote.root}/artifacts/{REF}/data.json")
    other = machine("two")
    assert make(other).complete == sound
    assert (machine("three").open(REF) / "model" / "weights.bin").read_bytes() == b"weights" * 1000
    names = store.remote.names(str(REF))
    assert names == ["data.json", MANIFEST, "model"] if sound else (len(names) == 2 and MANIFEST in names), names


class BadReader(LocalFileSystem):
    """Shared storage whose files come to the disk otherwise than they are, as long as there are `faults`."""

    protocol = ("bad", "file")
    faults = 0
    cachable = False

    def get_file(self, rpath, lpath, **options):
        super().get_file(rpath, lpath, **options)
        if BadReader.faults and rpath.endswith("data.json"):
            BadReader.faults -= 1
            with Path(lpath).open("r+b") as file:
                file.write(bytes([BadReader.faults % 256]))


@pytest.fixture
def bad_reader(tmp_path, monkeypatch):
    """Return the store as it is seen from a machine that reads badly so many times."""
    register_implementation("bad", BadReader, clobber=True)

    def store(name, faults):
        monkeypatch.setenv("NVR_CACHE", str(tmp_path / name))
        BadReader.faults = faults
        return ArtifactStore(resolve_home(f"bad://{tmp_path / 'share'}"))

    return store


def test_a_file_that_was_read_badly_is_fetched_once_more(bad_reader):
    make(bad_reader("one", 0))
    assert json.loads((bad_reader("two", 1).open(REF) / "data.json").read_text()) == {"content": 1}


def test_a_bad_disk_takes_nothing_from_the_others(bad_reader, tmp_path):
    make(bad_reader("one", 0))
    broken = bad_reader("two", 10**9)
    before = everything(broken)
    with pytest.raises(ArtifactError, match="which is sound: is the disk"):
        broken.open(REF)
    assert everything(broken) == before and broken.is_complete(REF) and not broken.folder(REF).exists()
    assert bad_reader("two", 0).open(REF), "on a disk that works again"


FILES = 6
THINGS = [ArtifactRef(kind="thing", fingerprint=f"{number:04}") for number in range(6)]


def build_at_once(url, cache, barrier):
    """Build every thing at the moment in which another machine does, with a content of this machine's own."""
    os.environ["NVR_CACHE"] = str(cache)
    store = ArtifactStore(resolve_home(url))
    for ref in THINGS:
        with store.build(ref) as build:
            for number in range(FILES):
                write_json(build.folder / f"{number}.json", cache.name)
            barrier.wait()


def test_two_machines_that_finish_the_same_at_once_never_mix_their_files(machine, url, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2, timeout=300)
    builders = [context.Process(target=build_at_once, args=(url, tmp_path / name, barrier)) for name in ("one", "two")]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert [builder.exitcode for builder in builders] == [0, 0]
    third = machine("three")
    assert third.references("thing") == THINGS
    for ref in THINGS:
        folder = third.open(ref)
        assert len({(folder / f"{number}.json").read_text() for number in range(FILES)}) == 1
