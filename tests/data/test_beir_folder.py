import gzip
import random

import numpy as np
import pytest
from data_helpers import DOCUMENTS, LABELS, QUERIES, REAL, ingest, labelled, write_beir
from hypothesis import given, settings
from hypothesis import strategies as st

from nv_retriever.data import canonical, staging
from nv_retriever.data.build import source_digest, write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.data.text import content_hash
from nv_retriever.errors import ArtifactError, InputError


def test_small_folder(tmp_path):
    data = ingest(write_beir(tmp_path / "set"), tmp_path / "out")
    assert data.name == "set" and data.splits == ("train", "test")
    assert data.document_ids.tolist() == ["d1", "d10", "d2", "d3", "é"] and data.query_ids.tolist() == [
        q for q, _ in QUERIES
    ]
    assert data.document_texts() == ["Cats purr at night", "Fish swim", "dogs bark", "DOGS  bark", "Ünïcode Straße"]
    assert data.document_texts([4, 0, 0]) == ["Ünïcode Straße", "Cats purr at night", "Cats purr at night"]
    assert data.groups.tolist() == [0, 1, 2, 2, 4]
    assert data.document_hashes[2] == data.document_hashes[3] != data.document_hashes[0]
    assert data.document_text_hashes[4] == np.frombuffer(content_hash("strasse"), "S16")[0]
    assert data.query_hashes[1] == data.query_hashes[3]
    assert labelled(data, "test") == {("q3", "d10", 1), ("q3", "d1", 0), ("q1", "é", 0)}
    assert data.query_rows("test").tolist() == [2] and data.query_rows("test").dtype == np.int32
    assert data.query_rows("train").tolist() == [0, 1, 3]
    assert labelled(data) == {label for labels in LABELS.values() for label in labels}
    assert len(data.positives()) == 4 and data.info["splits"]["test"] == {
        "queries": 1,
        "positives": 1,
        "judged_negatives": 2,
        "queries_without_positives": 1,
    }
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "corpus.parquet",
        "dataset.json",
        "qrels.parquet",
        "queries.parquet",
    ]


def test_missing_split_says_which_there_are(tmp_path):
    data = ingest(write_beir(tmp_path / "set"), tmp_path / "out")
    with pytest.raises(InputError, match=r"split 'dev'.*only train, test; .*qrels/dev.tsv"):
        data.query_rows("dev")
    with pytest.raises(ArtifactError):
        Dataset.open(tmp_path / "nothing")


def test_names_of_splits_in_whatever_case(tmp_path):
    labels = {"Train": [("q1", "d1", 1), ("q3", "d2", 1)], "TEST": [("q3", "d10", 1)]}
    dataset = ingest(write_beir(tmp_path / "set", labels=labels), tmp_path / "out")
    assert dataset.splits == ("train", "test")
    assert dataset.info["skipped"]["train_queries_of_dev_or_test"] == 1, "what is evaluated is dropped from training"


def _bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([1, 3, 8192]), st.booleans())
def test_order_of_lines_changes_no_byte(tmp_path_factory, rng: random.Random, rows: int, gzipped: bool):
    tmp = tmp_path_factory.mktemp("order")
    n = 60
    documents = [(f"d{i}", f"t{i % 7}", f"text {i % 50}") for i in range(n)]
    queries = [(f"q{i}", f"query {i % 20}") for i in range(30)]
    labels = {
        "train": [(f"q{i % 30}", f"d{(i * 7) % n}", i % 3) for i in range(60)],
        "dev": [(f"q{i}", f"d{i}", 1) for i in range(9)],
    }
    first = ingest(write_beir(tmp / "set", documents, queries, labels), tmp / "a", limit=5)
    for table in (documents, queries, *labels.values()):
        rng.shuffle(table)
    folder = write_beir(tmp / "set", documents, queries, labels)
    if gzipped:
        (folder / "corpus.jsonl.gz").write_bytes(gzip.compress((folder / "corpus.jsonl").read_bytes()))
        (folder / "corpus.jsonl").unlink()
    known = staging._ROWS, canonical.ROW_GROUP
    staging._ROWS = rows  # the size of the staged row groups is no part of the result
    try:
        second = ingest(folder, tmp / "b", limit=5)
    finally:
        staging._ROWS = known[0]
    assert _bytes(tmp / "a") == _bytes(tmp / "b")
    assert len(second.query_rows("train")) == 5 and np.array_equal(first.query_rows("train"), second.query_rows("train"))


def test_limit_keeps_documents_and_what_is_known(tmp_path):
    queries = [(f"q{i}", f"question {i}") for i in range(40)]
    labels = {"train": [(q, "d1", 1) for q, _ in queries]}
    source = write_beir(tmp_path / "set", queries=queries, labels=labels)
    few, more, all_ = (ingest(source, tmp_path / str(limit), limit=limit) for limit in (5, 10, None))
    assert few.n_documents == 5 and len(few.positives()) == 40 and len(few.positives("train")) == 5
    assert set(few.query_rows("train")) < set(more.query_rows("train")) < set(all_.query_rows("train"))


def test_row_groups_and_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(canonical, "ROW_GROUP", 7)
    documents = [(f"d{i:03}", "", f"text {i}") for i in range(50)]
    data = ingest(write_beir(tmp_path / "set", documents, labels={"train": [("q1", "d001", 1)]}), tmp_path / "out")
    expected = [text for _, _, text in documents]
    assert data.document_texts() == expected
    for batch in (1, 7, 8, 100):
        parts = list(data.iter_document_texts(batch))
        assert [t for _, texts in parts for t in texts] == expected
        assert [start for start, _ in parts] == np.cumsum([0, *(len(t) for _, t in parts[:-1])]).tolist()
    rows = np.random.default_rng(0).integers(0, 50, 30)
    assert data.document_texts(rows) == [expected[r] for r in rows] and data.document_texts([]) == []
    with pytest.raises(IndexError):
        data.document_texts([50])


def test_judged_negatives_repeats_and_grades(tmp_path):
    labels = {"test": [("q1", "d1", 1), ("q1", "d1", 3), ("q2", "d1", 0), ("q3", "d2", "2.0")]}
    judged = [("q1", "d2", 0), ("q1", "d1", 0), ("q2", "d2", 0)]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "ambiguous").mkdir()
    (tmp_path / "set" / "ambiguous" / "test.tsv").write_text("nonsense")
    source = write_beir(tmp_path / "set", labels=labels, judged=judged)
    data = ingest(source, tmp_path / "a")
    assert labelled(data) == {("q1", "d1", 3), ("q1", "d2", 0), ("q2", "d1", 0), ("q2", "d2", 0), ("q3", "d2", 2)}
    assert data.info["skipped"] == {"labels_repeated": 2} and data.query_rows("test").tolist() == [0, 2]
    strict = ingest(source, tmp_path / "b", min_grade=3)
    assert strict.query_rows("test").tolist() == [0]
    with pytest.raises(InputError, match="none of grade 4 or more"):
        ingest(source, tmp_path / "c", min_grade=4)


def test_labels_may_be_gzipped_and_hidden_files_are_none(tmp_path):
    plain = ingest(write_beir(tmp_path / "set"), tmp_path / "a")
    test = tmp_path / "set" / "qrels" / "test.tsv"
    test.with_name("test.tsv.gz").write_bytes(gzip.compress(test.read_bytes()))
    test.unlink()
    (tmp_path / "set" / "qrels" / "._train.tsv").write_bytes(b"\x00\x05\x16\x07\xff")
    data = ingest(tmp_path / "set", tmp_path / "b")
    assert labelled(data) == labelled(plain) and data.splits == plain.splits == ("train", "test")


def test_digest_follows_content_only(tmp_path):
    config = DatasetConfig(source=str(write_beir(tmp_path / "set")))
    before = source_digest(config)
    (tmp_path / "set" / "README.md").write_text("unread")
    assert source_digest(config) == before == source_digest(DatasetConfig(source=str(write_beir(tmp_path / "copy"))))
    write_beir(tmp_path / "set", documents=[*DOCUMENTS[:-1], ("d3", "", "changed")])
    assert source_digest(config) != before


@pytest.mark.parametrize(
    ("name", "documents", "queries", "splits"),
    [
        ("scifact", 5183, 1109, {"train": (807, 917, 0), "test": (300, 339, 0)}),
        ("cranfield", 1398, 225, {"test": (225, 1611, 0)}),
        ("cisi", 1460, 76, {"test": (76, 3114, 0)}),
        ("climate-fever-sentences", 5240, 1061, {"test": (1061, 2745, 2560)}),
        ("pubmedqa-sections", 4283, 1000, {"train": (458, 1946, 0), "dev": (42, 187, 0), "test": (500, 2150, 0)}),
    ],
)
def test_real_sets(tmp_path, name, documents, queries, splits):
    if not REAL.is_dir():
        pytest.skip("no data sets here")
    info = write_dataset(tmp_path, DatasetConfig(source=str(REAL / name)))
    found = {s: (c["queries"], c["positives"], c["judged_negatives"]) for s, c in info["splits"].items()}
    assert (info["documents"], info["queries"], found) == (documents, queries, splits)
    assert info["skipped"] == ({"train_queries_of_dev_or_test": 2} if name == "scifact" else {})
