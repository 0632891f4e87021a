from data_helpers import ingest, labelled, write_beir

from nv_retriever.data.leakage import find_leakage, kept_query_rows, leaked_labels


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
    dropped = leaked_labels(train, "train", found)
    assert {train.query_ids[q] for q in dropped.query_rows} == {"q1", "q2"} and len(dropped) == 3
    assert train.query_ids[kept_query_rows(train, "train", found)].tolist() == ["q3"]
    nothing = find_leakage(train, "train", held, "dev")
    assert not nothing and len(nothing.positives) == 0 and len(leaked_labels(train, "train", nothing)) == 0
    assert len(labelled(train)) == 4
