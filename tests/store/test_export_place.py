"""Where an export goes: written aside, never over foreign files, replaced only where it is an earlier export."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from store_world import Mined, odd_world, write_mining

from nv_retriever.errors import InputError
from nv_retriever.store.exports import export as export_module
from nv_retriever.store.exports.export import FORMATS, check_request, export
from nv_retriever.store.exports.format import ParquetRows

World = tuple[Path, Any, list[Mined]]

FILES = {
    "triplet": {"train.parquet", "ids.parquet"},
    "n-tuple": {"train.parquet", "ids.parquet"},
    "labeled-pair": {"train.parquet", "ids.parquet"},
    "labeled-list": {"train.parquet", "ids.parquet"},
    "flagembedding": {"train.jsonl"},
    "tevatron": {"train.jsonl"},
    "nemo": {"train.json", "corpus/merlin_metadata.json", "corpus/train.parquet"},
    "parquet": {"triples.parquet", "shortfall.parquet", "run.json"},
    "trec": {"run.trec"},
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return odd_world(tmp_path / "home")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_format_is_listed_in_the_error(world: World, tmp_path: Path) -> None:
    mining, dataset, _ = world
    with pytest.raises(InputError) as caught:
        export("sentence-transformer", mining, dataset, tmp_path / "out")
    assert all(name in str(caught.value) for name in FILES)
    assert set(FILES) == set(FORMATS)


@pytest.mark.parametrize("name", FILES)
def test_a_folder_holds_the_files_a_card_and_the_mark(world: World, tmp_path: Path, name: str) -> None:
    mining, dataset, _ = world
    result = export(name, mining, dataset, tmp_path / "deep" / "out")
    assert result.path == tmp_path / "deep" / "out"
    assert files(result.path) == FILES[name] | {"README.md", ".nvr-export"}
    assert {path.name for path in result.path.parent.iterdir()} == {"out"}
    card = (result.path / "README.md").read_text(encoding="utf-8")
    assert f"rows: {result.rows}" in card
    assert "topk-percpos(0.95)" in card
    assert (result.why or "nothing") in card
    assert str(tmp_path) not in card + (result.path / ".nvr-export").read_text()


def test_the_same_export_twice_is_the_same_bytes(world: World, tmp_path: Path) -> None:
    mining, dataset, _ = world
    for name in FILES:
        for out in ("a", "b"):
            export(name, mining, dataset, tmp_path / name / out)
        for file in files(tmp_path / name / "a"):
            assert (tmp_path / name / "a" / file).read_bytes() == (tmp_path / name / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("name", "file"), [("flagembedding", "n.jsonl"), ("tevatron", "n.jsonl"), ("trec", "n.run"), ("parquet", "n.parquet")]
)
def test_formats_of_one_file_take_a_file_name(world: World, tmp_path: Path, name: str, file: str) -> None:
    mining, dataset, _ = world
    for _ in range(2):
        result = export(name, mining, dataset, tmp_path / "out" / file)
    export(name, mining, dataset, tmp_path / "folder")
    assert result.path.read_bytes() == (tmp_path / "folder" / FORMATS[name].main).read_bytes()
    assert files(tmp_path / "out") == {file, f".{file}.nvr-export"}


@pytest.mark.parametrize(
    ("name", "file"), [("triplet", "x.parquet"), ("nemo", "x.json"), ("flagembedding", "x.csv"), ("trec", "x.gz")]
)
def test_other_file_names_are_refused(world: World, tmp_path: Path, name: str, file: str) -> None:
    mining, dataset, _ = world
    with pytest.raises(InputError, match="a folder"):
        export(name, mining, dataset, tmp_path / file)


@pytest.mark.parametrize("out", ["s3://bucket/negatives", "file:///tmp/negatives", Path("s3://bucket/negatives"), "-"])
def test_what_is_no_path_is_refused(out: Path | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="expected a path on this machine"):
        check_request("parquet", out)
    check_request("parquet", "C:/negatives")


def test_foreign_files_are_kept(world: World, tmp_path: Path) -> None:
    mining, dataset, _ = world
    out = tmp_path / "out"
    out.mkdir()
    export("triplet", mining, dataset, out)
    (out / "thesis.txt").write_text("mine")
    before = files(out)
    with pytest.raises(InputError, match=r"thesis\.txt"):
        export("nemo", mining, dataset, out)
    assert files(out) == before
    (tmp_path / "corpus.jsonl").write_text("mine")
    with pytest.raises(InputError, match=r"corpus\.jsonl"):
        export("flagembedding", mining, dataset, tmp_path / "corpus.jsonl")
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(InputError, match="expected a folder, found a file"):
        export("triplet", mining, dataset, tmp_path / "notes")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InputError, match="expected a file, found a folder"):
        export("tevatron", mining, dataset, tmp_path / "folder.jsonl")
    assert (tmp_path / "corpus.jsonl").read_text() == "mine"


@pytest.mark.parametrize("out", ["out", "new", "deep/new"])
def test_a_place_in_a_folder_that_cannot_be_written_is_refused(world: World, tmp_path: Path, out: str) -> None:
    mining, dataset, _ = world
    shut = tmp_path / "shut"
    export("triplet", mining, dataset, shut / "out")
    shut.chmod(0o555)
    if os.access(shut, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(InputError, match=f"expected a place below a folder that can be written, found {shut}"):
        check_request("triplet", shut / out)


def test_an_earlier_export_is_replaced_whole(world: World, tmp_path: Path) -> None:
    mining, dataset, _ = world
    export("nemo", mining, dataset, tmp_path / "out")
    export("tevatron", mining, dataset, tmp_path / "out")
    assert files(tmp_path / "out") == FILES["tevatron"] | {"README.md", ".nvr-export"}
    assert {path.name for path in tmp_path.iterdir()} == {"home", "out"}


def test_a_failure_leaves_the_earlier_export(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mining, dataset, _ = world
    export("triplet", mining, dataset, tmp_path / "out")
    before = {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")}

    def full_disk(self: ParquetRows) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(ParquetRows, "_flush", full_disk)
    with pytest.raises(OSError, match="No space left"):
        export("n-tuple", mining, dataset, tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")} == before
    assert {path.name for path in tmp_path.iterdir()} == {"home", "out"}


@pytest.mark.parametrize("mark", ["", "[]", "{}", '{"files": 3}', "not json"])
def test_a_mark_that_is_none_protects_nothing_less(world: World, tmp_path: Path, mark: str) -> None:
    mining, dataset, _ = world
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / export_module.MARKER).write_text(mark)
    (tmp_path / "out" / "precious").write_text("mine")
    with pytest.raises(InputError, match="precious"):
        export("trec", mining, dataset, tmp_path / "out")


def test_all_text_is_strict_json(tmp_path: Path, world: World) -> None:
    _, dataset, samples = world
    mining = write_mining(tmp_path / "m", samples, dataset="a\u2028name", note='"quotes" and \\')
    export("nemo", mining, dataset, tmp_path / "out")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    loaded = json.loads((tmp_path / "out" / "train.json").read_text(encoding="ascii"), parse_constant=refuse)
    assert loaded["mining"]["args"]["note"] == '"quotes" and \\'


def test_a_link_stays_and_what_it_leads_to_is_replaced(world: World, tmp_path: Path) -> None:
    mining, dataset, _ = world
    (tmp_path / "disk" / "old").mkdir(parents=True)
    for name, target in (("link", "disk/old"), ("dangling", "disk/new"), ("file.jsonl", "disk/file.jsonl")):
        (tmp_path / name).symlink_to(tmp_path / target)
        for _ in range(2):
            export("flagembedding", mining, dataset, tmp_path / name)
        assert (tmp_path / name).is_symlink()
    assert files(tmp_path / "disk" / "old") == files(tmp_path / "disk" / "new") >= {"train.jsonl"}
    assert (tmp_path / "disk" / "file.jsonl").stat().st_size
    assert not list(tmp_path.rglob("*.part"))


def test_a_mount_point_is_refused_before_anything_is_written() -> None:
    mounted = next(path for path in (Path("/dev/shm"), Path("/proc"), Path("/")) if path.is_mount())
    with pytest.raises(InputError, match="a folder that can be replaced, found a mount point"):
        check_request("triplet", mounted)
