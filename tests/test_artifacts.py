import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from nv_retriever.artifacts import MANIFEST, ArtifactRef, ArtifactStore
from nv_retriever.errors import ArtifactError
from nv_retriever.files import write_aside, write_json
from nv_retriever.mapped_file import create_mapped

REF = ArtifactRef(kind="thing", fingerprint="0123")


def make(store, content="content"):
    with store.build(REF) as build:
        if not build.complete:
            write_json(build.folder / "data.json", {"content": content})
            build.info["counts"] = {"rows": 1}
        return build


def test_miss_build_hit(tmp_path):
    store = ArtifactStore(tmp_path)
    assert not store.is_complete(REF)
    assert not make(store).complete
    assert store.is_complete(REF)
    assert make(store).complete
    assert store.manifest(REF)["counts"] == {"rows": 1}


def test_a_deleted_folder_is_a_miss(tmp_path):
    store = ArtifactStore(tmp_path)
    make(store)
    for file in store.folder(REF).iterdir():
        file.unlink()
    store.folder(REF).rmdir()
    assert not store.is_complete(REF)
    with pytest.raises(ArtifactError, match="does not exist"):
        store.open(REF)


@pytest.mark.parametrize("damage", ["delete", "truncate", "flip", "{", "null", '{"files": {"data.json": 1}}'])
def test_damage_is_a_miss_with_a_warning_and_is_repaired(tmp_path, damage, caplog):
    store = ArtifactStore(tmp_path)
    make(store)
    path = store.folder(REF) / ("data.json" if damage.isalpha() and damage != "null" else MANIFEST)
    if damage == "delete":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "flip":
        path.write_bytes(path.read_bytes().replace(b"c", b"d", 1))
    else:
        path.write_text(damage)
    assert not store.is_complete(REF)
    assert "damaged" in caplog.text
    make(store)
    assert json.loads((store.open(REF) / "data.json").read_text()) == {"content": "content"}


def test_an_untouched_copy_with_other_times_is_sound(tmp_path):
    store = ArtifactStore(tmp_path)
    make(store)
    os.utime(store.folder(REF) / "data.json", (1, 1))
    assert store.is_complete(REF)


def test_a_failed_build_leaves_no_manifest_and_keeps_its_parts(tmp_path):
    store = ArtifactStore(tmp_path)
    with pytest.raises(RuntimeError), store.build(REF) as build:
        write_json(build.folder / "part.json", 1)
        raise RuntimeError
    assert not store.is_complete(REF)
    with store.build(REF) as build:
        assert (build.folder / "part.json").exists()


def test_write_aside_is_all_or_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), write_aside(path) as aside:
        aside.write_text("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


FULL = """
import resource, sqlite3, sys
from pathlib import Path
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.mapped_file import create_mapped
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, resource.RLIM_INFINITY))
writers = {
    "numpy": lambda path: np.save(path, np.zeros(1 << 16)),
    "pyarrow": lambda path: pq.write_table(pa.table({"a": np.random.default_rng(0).random(1 << 16)}), path),
    "python": lambda path: path.write_bytes(bytes(1 << 16)),
    "mapped": lambda path: create_mapped(path, np.float64, (1 << 16,)),
    "safetensors": lambda path: save_file({"a": torch.zeros(1 << 16)}, path),
    "torch": lambda path: torch.save(torch.zeros(1 << 16), path),
    "sqlite": lambda path: sqlite3.connect(path).execute("create table a as select randomblob(100000)"),
}
for name, write in writers.items():
    try:
        with ArtifactStore(sys.argv[1]).build(ArtifactRef(kind="thing", fingerprint=name)) as build:
            write(build.folder / "file")
    except OSError as error:
        print(name, error.filename)
"""


def test_an_error_of_the_disk_names_the_place(tmp_path):
    """A limit on the size of files stands for a full disk."""
    said = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True).stdout.splitlines()
    place = ArtifactStore(tmp_path).root / "thing"
    assert [line.startswith(f"{line.split()[0]} {place}/") for line in said] == [True] * 7, said


def test_a_mapped_file_has_no_holes(tmp_path):
    """Where the disk is full when one is filled, the process ends by SIGBUS."""
    array = create_mapped(tmp_path / "array.npy", np.float32, (1 << 16, 4))
    stat = (tmp_path / "array.npy").stat()
    assert stat.st_blocks * 512 >= stat.st_size > array.nbytes
    array[:] = 1
    array.flush()
    assert np.load(tmp_path / "array.npy").sum() == array.size


def _build_in_process(home, results):
    results.put(make(ArtifactStore(home)).complete)


def test_two_machines_may_give_their_processes_one_number(tmp_path):
    """Two writers at once under one number, as on shared storage: each has a file of its own, the last one stays."""
    path = tmp_path / "file.json"
    with write_aside(path) as first, write_aside(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert [one.name for one in tmp_path.iterdir()] == ["file.json"]


def test_what_killed_writers_left_is_no_part_of_an_artifact(tmp_path):
    store = ArtifactStore(tmp_path)
    with store.build(REF) as build:
        left = build.folder / ".model.0123.part" / "deep"
        left.mkdir(parents=True)
        (left / "weights").write_text("half")
        (build.folder / ".data.json.0123.part").write_text("half")
        write_json(build.folder / "data.json", 1)
    assert list(store.manifest(REF)["files"]) == ["data.json"]
    assert {path.name for path in store.folder(REF).iterdir()} == {"data.json", "manifest.json"}


def test_two_processes_build_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_build_in_process, args=(tmp_path, results)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(results.get() for _ in processes) == [False, True]


def test_a_killed_build_frees_its_lock_and_goes_on(tmp_path):
    script = textwrap.dedent(
        f"""
        import os, signal
        from nv_retriever.artifacts import *
        with ArtifactStore({str(tmp_path)!r}).build(ArtifactRef(kind="thing", fingerprint="0123")) as build:
            write_json(build.folder / "part.json", 1)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    store = ArtifactStore(tmp_path)
    assert not store.is_complete(REF)
    make(store)
    assert set(store.manifest(REF)["files"]) == {"part.json", "data.json"}
