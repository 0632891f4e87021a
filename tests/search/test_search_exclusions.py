"""What is excluded equals a brute force from the texts, ids and labels, reason by reason."""

import sys
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from beir_folders import ingest

from nv_retriever.data.text import normalise
from nv_retriever.search.exclusions import build_exclusions
from nv_retriever.search.types import Reason


def reasons_of(exclusions, query):
    part = slice(*exclusions.offsets[query : query + 2])
    return dict(zip(exclusions.documents[part].tolist(), map(Reason, exclusions.reasons[part]), strict=True))


def brute_force(dataset, split, exclude_same_id):
    texts = dataset.document_texts()
    views = [normalise(text) for text in texts]
    bodies = dataset.document_text_hashes
    queries = [normalise(text) for text in dataset.query_texts()]
    labels = dataset.positives()
    positives = list(zip(labels.query_rows.tolist(), labels.document_rows.tolist(), strict=True))
    expected = []
    for query in dataset.query_rows(split).tolist():
        found = {}
        for row, view in enumerate(views):
            own = {d for q, d in positives if q == query}
            same = {d for q, d in positives if queries[q] == queries[query]}
            reasons = [
                Reason.POSITIVE if row in own else None,
                Reason.DUPLICATE if any(views[d] == view for d in own) else None,
                Reason.QUERY_ID if exclude_same_id and dataset.document_ids[row] == dataset.query_ids[query] else None,
                Reason.QUERY_TEXT if queries[query] == view or bodies[row] == dataset.query_hashes[query] else None,
                Reason.SAME_QUERY if any(views[d] == view for d in same) else None,
            ]
            reasons = [reason for reason in reasons if reason is not None]
            if reasons:
                found[row] = min(reasons)
        expected.append(found)
    return expected


WORDS = st.sampled_from(["ash", "Ash ", "birch", "cedar", "dogwood"])
IDS = ["a", "b", "c", "d", "e", "f"]


@st.composite
def collections(draw):
    documents = {key: (draw(st.sampled_from(["", "", "elm"])), draw(WORDS)) for key in IDS[: draw(st.integers(1, 6))]}
    queries = {key: draw(WORDS) for key in IDS[: draw(st.integers(1, 5))]}
    label = st.tuples(st.sampled_from(sorted(queries)), st.sampled_from(sorted(documents)), st.integers(0, 2))
    labels = st.lists(label, max_size=6, unique_by=lambda row: row[:2])
    train = [("a", "a", 1)] + [row for row in draw(labels) if row[:2] != ("a", "a")]
    test = draw(labels)
    return documents, queries, {"train": train} | ({"test": test} if test else {})


@settings(max_examples=20, deadline=None)
@given(collections(), st.booleans())
def test_exclusions_equal_a_brute_force(collection, exclude_same_id):
    with tempfile.TemporaryDirectory() as folder:
        dataset = ingest(Path(folder), *collection, on_leak="keep")
        for split in dataset.splits:
            exclusions = build_exclusions(dataset, split, exclude_same_id)
            expected = brute_force(dataset, split, exclude_same_id)
            assert [reasons_of(exclusions, i) for i in range(len(expected))] == expected
            for i in range(len(expected)):
                part = exclusions.documents[exclusions.offsets[i] : exclusions.offsets[i + 1]]
                assert (np.diff(part) > 0).all()


def test_labels_of_grade_0_are_judged_negatives_not_exclusions(tmp_path):
    documents = {"x": ("", "one"), "y": ("", "two")}
    dataset = ingest(tmp_path, documents, {"q": "three"}, {"train": [("q", "x", 1), ("q", "y", 0)]})
    assert reasons_of(build_exclusions(dataset, "train"), 0) == {0: Reason.POSITIVE}


def test_the_first_document_may_have_the_query_s_id(tmp_path):
    dataset = ingest(tmp_path, {"q": ("", "one"), "x": ("", "two")}, {"q": "three"}, {"train": [("q", "x", 1)]})
    assert reasons_of(build_exclusions(dataset, "train"), 0) == {0: Reason.QUERY_ID, 1: Reason.POSITIVE}
    assert reasons_of(build_exclusions(dataset, "train", exclude_same_id=False), 0) == {1: Reason.POSITIVE}


def test_positives_of_other_splits_and_of_queries_beyond_the_limit_are_excluded(tmp_path):
    documents = {str(i): ("", f"text {i}") for i in range(6)}
    queries = {"q": "same", "r": "Same", "s": "other"}
    qrels = {"train": [("q", "0", 1), ("r", "1", 1), ("s", "2", 1)], "test": [("q", "3", 1)]}
    dataset = ingest(tmp_path, documents, queries, qrels, limit=1, on_leak="keep")
    for row, query in enumerate(dataset.query_ids[dataset.query_rows("train")]):
        found = reasons_of(build_exclusions(dataset, "train"), row)
        if query == "s":
            assert found == {2: Reason.POSITIVE}
        else:
            assert set(found) == {0, 1, 3}
