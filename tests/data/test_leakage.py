import pytest
from data_helpers import ingest, labelled, write_beir

from nv_retriever.data.leakage import find_leakage
from nv_retriever.errors import InputError


def test_leakage_across_data_sets(tmp_path):
    documents = [("a", "T", "one text"), ("b", "", "two"), ("c", "", "three")]
    queries = [("q1", "Same  question?"), ("q2", "other"), ("q3", "third")]
    labels = {"train": [("q1", "a", 1), ("q2", "b", 1), ("q3", "c", 1), ("q2", "c", 0)]}
    train = ingest(
        write_beir(
            tmp_path / "t", documents, queries, {"train": [("q1", "a", 1), ("q2", "b", 1), ("q3", "c", 1), ("q2", "c", 0)]}
        ),
        tmp_path / "to",
    )
    documents = [("x", "Another title", "ONE text"), ("y", "", "two!"), ("z", "", "two")]
    queries = [("p1", "same question?"), ("p2", "new"), ("p3", "OTHER"), ("p4", "newer")]
    labels = {
        "test": [("p1", "y", 1), ("p2", "x", 1), ("p3", "y", 1), ("p3", "z", 0), ("p4", "y", 1)],
        "dev": [("p4", "y", 1)],
    }
    held = ingest(write_beir(tmp_path / "e", documents, queries, labels), tmp_path / "eo")
    found = find_leakage(train, "train", held, "test")
    assert found and held.query_ids[found.queries].tolist() == ["p1", "p3"]
    assert held.document_ids[found.positives].tolist() == ["x"] and held.query_ids[found.positive_queries].tolist() == ["p2"]
    assert (found.n_queries, found.n_positives) == (4, 2)
    assert str(found) == "2 of 4 evaluation queries are training queries, 1 of 2 evaluation positives are training positives"
    nothing = find_leakage(train, "train", held, "dev")
    assert not nothing and len(nothing.positives) == 0
    assert len(labelled(train)) == 4


def test_a_training_query_that_is_evaluated_is_dropped_from_training(tmp_path):
    documents = [("a", "", "one"), ("b", "", "two"), ("c", "", "three")]
    queries = [("q1", "Same  question?"), ("q2", "other"), ("q3", "SAME question?"), ("q4", "asked in dev")]
    labels = {
        "train": [("q1", "a", 1), ("q2", "b", 1), ("q4", "c", 1)],
        "dev": [("q4", "c", 1)],
        "test": [("q3", "b", 1)],
    }
    source = write_beir(tmp_path / "set", documents, queries, labels)
    dropped, kept = ingest(source, tmp_path / "dropped"), ingest(source, tmp_path / "kept", on_leak="keep")
    assert dropped.query_ids[dropped.query_rows("train")].tolist() == ["q2"]
    assert dropped.info["skipped"] == {"train_queries_of_dev_or_test": 2}
    assert len(dropped.positives()) == 5, "their labels stay known: no positive of theirs becomes a negative"
    assert not find_leakage(dropped, "train", dropped, "test") and not find_leakage(dropped, "train", dropped, "dev")
    assert kept.query_ids[kept.query_rows("train")].tolist() == ["q1", "q2", "q4"] and find_leakage(
        kept, "train", kept, "test"
    )


def test_training_queries_that_are_all_evaluated_are_an_error(tmp_path):
    documents, queries = [("a", "", "one")], [("q1", "question"), ("q2", "Question")]
    source = write_beir(tmp_path / "set", documents, queries, {"train": [("q1", "a", 1)], "test": [("q2", "a", 1)]})
    with pytest.raises(InputError, match="training queries that dev and test do not ask"):
        ingest(source, tmp_path / "out")
