"""Incomplete labels: what is hidden and what is known make up all labels, and nobody but the oracle sees the former."""

import random

import numpy as np
import pytest
from data_helpers import ingest, labelled, write_beir
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nv_retriever.data.config import DatasetConfig
from nv_retriever.search.exclusions import build_exclusions
from nv_retriever.training.known import KnownPositives

DOCUMENTS = [(f"d{i}", "", f"text {i}") for i in range(30)]
QUERIES = [(f"q{i}", f"query {i}") for i in range(12)]


def labels_of(rng: random.Random, queries):
    return [(q, f"d{d}", rng.choice([0, 1, 2])) for q in queries for d in rng.sample(range(30), rng.randint(1, 6))]


def hidden_of(data):
    labels = data.hidden()
    rows = zip(labels.query_rows, labels.document_rows, labels.grades, strict=True)
    return {(data.query_ids[q], data.document_ids[d], int(g)) for q, d, g in rows}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(0, 3))
def test_hidden_and_known_make_up_all_labels(tmp_path_factory, world: int, kept: int, seed: int):
    rng, tmp = random.Random(world), tmp_path_factory.mktemp("hidden")
    names = [name for name, _ in QUERIES]
    labels = {
        "train": [*labels_of(rng, names[:8]), ("q0", "d29", 1)],
        "test": [*labels_of(rng, names[8:]), ("q11", "d1", 1)],
    }
    source = write_beir(tmp / "set", DOCUMENTS, QUERIES, labels)
    whole = ingest(source, tmp / "whole")
    some = ingest(source, tmp / "some", known_positives=kept, hiding_seed=seed)
    hidden = hidden_of(some)
    assert labelled(some, "train") | hidden == labelled(whole, "train") and not labelled(some, "train") & hidden
    assert labelled(some, "test") == labelled(whole, "test")
    assert all(grade >= 1 for _, _, grade in hidden)
    before = {q: sum(1 for one, _, g in labelled(whole, "train") if one == q and g) for q in names}
    after = {q: sum(1 for one, _, g in labelled(some, "train") if one == q and g) for q in names}
    assert after == {q: min(before[q], kept) if q in names[:8] else 0 for q in names}
    assert some.query_rows("train").tolist() == whole.query_rows("train").tolist()
    for table in labels.values():
        rng.shuffle(table)
    again = ingest(
        write_beir(tmp / "set", DOCUMENTS[::-1], QUERIES[::-1], labels),
        tmp / "again",
        known_positives=kept,
        hiding_seed=seed,
    )
    assert hidden_of(again) == hidden and again.info["digest"] == some.info["digest"]


def test_miners_masks_and_exclusions_do_not_see_hidden_labels(tmp_path):
    """A data set that hides labels is, to them, one that never had these labels."""
    labels = {"train": labels_of(random.Random(0), [name for name, _ in QUERIES])}
    hiding = ingest(write_beir(tmp_path / "set", DOCUMENTS, QUERIES, labels), tmp_path / "a", known_positives=1)
    without = {"train": sorted(labelled(hiding, "train"))}
    never = ingest(write_beir(tmp_path / "set", DOCUMENTS, QUERIES, without), tmp_path / "b")
    assert len(hiding.hidden()) and not len(never.hidden())
    one, other = build_exclusions(hiding, "train"), build_exclusions(never, "train")
    assert np.array_equal(one.documents, other.documents) and np.array_equal(one.offsets, other.offsets)
    assert np.array_equal(KnownPositives(hiding)._known, KnownPositives(never)._known)
    assert (tmp_path / "a" / "qrels.parquet").read_bytes() == (tmp_path / "b" / "qrels.parquet").read_bytes()


def test_another_seed_hides_others(tmp_path):
    labels = {"train": [(name, f"d{d}", 1) for name, _ in QUERIES for d in range(6)]}
    source = write_beir(tmp_path / "set", DOCUMENTS, QUERIES, labels)
    first, second = (ingest(source, tmp_path / str(seed), known_positives=1, hiding_seed=seed) for seed in (0, 1))
    assert hidden_of(first) != hidden_of(second) and len(first.hidden()) == len(second.hidden()) == 60
    assert first.info["digest"] != second.info["digest"]
    chosen = {document for _, document, _ in labelled(first, "train")}
    assert len(chosen) > 2  # not the same place for every query
    with pytest.raises(ValidationError, match="known_positives"):
        DatasetConfig(hiding_seed=1)


def test_a_limit_of_train_leaves_the_others_alone(tmp_path):
    labels = {split: [(name, "d1", 1) for name, _ in QUERIES] for split in ("train", "test")}
    source = write_beir(tmp_path / "set", DOCUMENTS, QUERIES, labels)
    few = ingest(source, tmp_path / "few", train_limit=4, on_leak="keep")
    assert [len(few.query_rows(split)) for split in ("train", "test")] == [4, 12] and len(few.positives()) == 24
    both = ingest(source, tmp_path / "both", train_limit=4, limit=6, on_leak="keep")
    assert [len(both.query_rows(split)) for split in ("train", "test")] == [4, 6]
    assert both.query_rows("train").tolist() == few.query_rows("train").tolist()
