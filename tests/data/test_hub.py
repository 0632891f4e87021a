"""The hub's loading code on local folders: `datasets` reads both alike; the hub itself is out of reach in tests."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import DOCUMENTS, LABELS, QUERIES, ingest, labelled, write_beir

from nv_retriever.data import build
from nv_retriever.data.build import source_digest, write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.data.hub import HubBeir, hub_digest
from nv_retriever.errors import InputError


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hub-cache"))


def table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def hub_folder(folder, qrels="default", score=True):
    """A repository in the layout of mteb's BEIR sets (default) or NanoBEIR (qrels, no score)."""
    table(folder / "corpus/corpus.parquet", [{"_id": i, "title": title, "text": text} for i, title, text in DOCUMENTS])
    table(folder / "queries/queries.parquet", [{"_id": i, "text": text} for i, text in QUERIES])
    parts = {"corpus": {"corpus": "corpus/*"}, "queries": {"queries": "queries/*"}, qrels: {}}
    for split, labels in LABELS.items():
        rows = [{"query-id": q, "corpus-id": d} | ({"score": float(g)} if score else {}) for q, d, g in labels]
        table(folder / qrels / f"{split}.parquet", rows)
        parts[qrels][split] = f"{qrels}/{split}.parquet"
    lines = ["---", "configs:"]
    for name, files in parts.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [line for split, path in files.items() for line in (f"  - split: {split}", f"    path: {path}")]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


def test_beir_layout(tmp_path):
    hub = ingest(f"hf:{hub_folder(tmp_path / 'repo')}", tmp_path / "a")
    local = ingest(write_beir(tmp_path / "set"), tmp_path / "b")
    assert labelled(hub) == labelled(local) and hub.document_texts() == local.document_texts() and hub.name == "repo"
    assert (tmp_path / "a/corpus.parquet").read_bytes() == (tmp_path / "b/corpus.parquet").read_bytes()


def test_labels_without_scores_are_positives(tmp_path):
    data = ingest(f"hf:{hub_folder(tmp_path / 'nano', 'qrels', score=False)}", tmp_path / "out")
    assert labelled(data) == {(q, d, 1) for labels in LABELS.values() for q, d, _ in labels}


def test_labels_in_a_repository_of_their_own(tmp_path, monkeypatch):
    folder = hub_folder(tmp_path / "repo")
    for split, labels in LABELS.items():
        table(tmp_path / f"repo-qrels/{split}.parquet", [{"query-id": q, "corpus-id": d, "score": g} for q, d, g in labels])
    source = HubBeir(str(folder), str(tmp_path / "repo-qrels"), "beir")
    monkeypatch.setattr(build, "open_source", lambda config: source)
    write_dataset(tmp_path / "out", DatasetConfig(source="scifact"))
    assert labelled(Dataset.open(tmp_path / "out")) == {label for labels in LABELS.values() for label in labels}


def test_pairs(tmp_path):
    for split, start in (("train", 0), ("validation", 50)):
        table(
            tmp_path / f"repo/{split}.parquet", [{"question": f"q{i}", "answer": f"a{i}"} for i in range(start, start + 5)]
        )
    data = ingest(f"hf:{tmp_path / 'repo'}", tmp_path / "out")
    assert data.splits == ("train", "dev") and data.n_documents == 10
    before = source_digest(DatasetConfig(source=f"hf:{tmp_path / 'repo'}"))
    table(tmp_path / "repo/train.parquet", [{"question": "new", "answer": "new"}])
    assert source_digest(DatasetConfig(source=f"hf:{tmp_path / 'repo'}")) != before


def test_what_datasets_saved_to_disk(tmp_path):
    from datasets import Dataset as Table
    from datasets import DatasetDict

    rows = Table.from_list([{"query": f"q {number}", "positive": f"p {number}"} for number in range(12)])
    rows.save_to_disk(str(tmp_path / "one"))
    DatasetDict({"train": rows.select(range(8)), "test": rows.select(range(8, 12))}).save_to_disk(str(tmp_path / "two"))
    one, two = (ingest(tmp_path / name, tmp_path / f"out-{name}") for name in ("one", "two"))
    assert one.document_texts() == ingest(f"hf:{tmp_path / 'one'}", tmp_path / "hub").document_texts()
    assert one.splits == ("train", "dev", "test") and one.n_documents == 12
    assert two.splits == ("train", "test") and len(two.query_rows("test")) == 4


def test_a_clone_s_description_is_no_data(tmp_path):
    (tmp_path / "clone/data").mkdir(parents=True)
    (tmp_path / "clone/dataset_infos.json").write_text('{"default": {}}')
    (tmp_path / "clone/data/train.jsonl").write_text('{"query": "q", "positive": "p"}\n')
    assert ingest(tmp_path / "clone", tmp_path / "out").document_texts() == ["p"]


@pytest.mark.parametrize("source", ["hf:nobody/nothing-here", "nfcorpus"])
def test_offline_is_one_clear_line(tmp_path, monkeypatch, source):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for call in (lambda c: ingest(source, tmp_path / "out"), source_digest):
        with pytest.raises(InputError, match=r"hub data set .*check the name and the network") as caught:
            call(DatasetConfig(source=source))
        assert "\n" not in str(caught.value)


def test_a_commit_is_its_own_digest():
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert hub_digest("nobody/nothing", commit) == commit


def test_ir_datasets_is_optional(tmp_path):
    try:
        import ir_datasets  # noqa: F401
    except ImportError:
        with pytest.raises(
            InputError, match=r"irds:beir/scifact: expected the package ir_datasets, found not installed; pip"
        ):
            ingest("irds:beir/scifact", tmp_path / "out")
    else:
        pytest.skip("ir_datasets is installed")
