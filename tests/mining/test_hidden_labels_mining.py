"""The oracle sees hidden labels, no other method does, and the count of false negatives is exact."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from beir_folders import ingest
from mining_world import search

from nv_retriever.errors import InputError
from nv_retriever.evaluation.false_negatives import FalseNegatives, count_false_negatives
from nv_retriever.mining.build import write_mining
from nv_retriever.mining.config import MiningConfig

N, QUERIES = 40, 8


def world(folder, **config):
    documents = {f"d{i:02}": f"document number {i}" for i in range(N)}
    documents["d39"] = documents["d01"]  # a copy of a label of q0
    queries = {f"q{i}": f"query number {i}" for i in range(QUERIES)}
    qrels = [(f"q{i}", f"d{(3 * i + k) % 39:02}", 1) for i in range(QUERIES) for k in range(3)]
    return ingest(folder, documents, queries, {"train": qrels}, **config), {(q, d) for q, d, _ in qrels}


def mined(folder, dataset, **settings):
    matrix = np.random.default_rng(0).uniform(0.1, 0.9, (QUERIES, N)).astype(np.float32)
    folder.mkdir()
    table, scorer = search(folder, dataset, "train", matrix)
    out = folder / "mining"
    out.mkdir()
    config = MiningConfig(**settings)
    write_mining(out, dataset, "train", [table], lambda _: scorer, config, 0, "0123456789abcdef")
    columns = pq.read_table(out / "triples.parquet", columns=["query_id", "positive_id", "negative_id", "rank"])
    return out, [tuple(row.values()) for row in columns.to_pylist()]


@pytest.mark.parametrize(
    "settings", [{"rule": "topk", "selection": "top(12)"}, {"rule": "topk-percpos(0.95)", "shortfall": "random"}]
)
def test_only_the_oracle_sees_hidden_labels(tmp_path, settings):
    hiding, labels = world(tmp_path / "hiding", known_positives=1)
    blind_folder, blind = mined(tmp_path / "blind", hiding, **settings)
    oracle_folder, oracle = mined(tmp_path / "oracle", hiding, **settings, oracle=True)
    false = [row for row in blind if (row[0], row[2]) in labels or (row[0], row[2]) == ("q0", "d39")]
    assert count_false_negatives(hiding, blind_folder) == FalseNegatives(len(blind), len(false)) and false
    assert count_false_negatives(hiding, oracle_folder) == FalseNegatives(len(oracle), 0)
    if settings["rule"] == "topk":  # what is left keeps its order and its ranks: the oracle is topk and a veto
        survivors = [row for row in blind if row not in false]
        assert set(survivors) <= set(oracle) and len(oracle) == len(blind)


def test_the_hidden_positives_of_a_twin_are_false_too(tmp_path):
    """Every query is asked twice, under two ids with their own labels; what one hides is relevant to the other."""
    documents = {f"d{i:02}": f"document number {i}" for i in range(N)}
    queries = {f"q{i}": f"{'Query' if i % 2 else 'query'} number {i // 2}" for i in range(QUERIES)}
    qrels = [(f"q{i}", f"d{3 * i + k:02}", 1) for i in range(QUERIES) for k in range(3)]
    hiding = ingest(tmp_path / "hiding", documents, queries, {"train": qrels}, known_positives=1)
    twins = {(f"q{int(q[1:]) ^ 1}", d) for q, d, _ in qrels}
    false = twins | {(q, d) for q, d, _ in qrels}
    blind_folder, blind = mined(tmp_path / "blind", hiding, rule="topk", selection="top(30)")
    _, oracle = mined(tmp_path / "oracle", hiding, rule="topk", selection="top(30)", oracle=True)
    assert {(row[0], row[2]) for row in blind} & twins and not {(row[0], row[2]) for row in oracle} & false
    counted = sum((row[0], row[2]) in false for row in blind)
    assert count_false_negatives(hiding, blind_folder) == FalseNegatives(len(blind), counted)


def test_the_miner_does_the_same_whether_labels_are_hidden_or_were_never_there(tmp_path):
    hiding, _ = world(tmp_path / "hiding", known_positives=1)
    known = hiding.positives("train")
    rows = zip(hiding.query_ids[known.query_rows], hiding.document_ids[known.document_rows], known.grades, strict=True)
    documents = dict(zip(hiding.document_ids, hiding.document_texts(), strict=True))
    queries = dict(zip(hiding.query_ids, hiding.query_texts(), strict=True))
    never = ingest(tmp_path / "never", documents, queries, {"train": [(q, d, int(g)) for q, d, g in rows]})
    assert mined(tmp_path / "a", hiding, rule="topk")[1] == mined(tmp_path / "b", never, rule="topk")[1]


def test_an_oracle_without_hidden_labels_is_an_error(tmp_path):
    dataset, _ = world(tmp_path / "all")
    with pytest.raises(InputError, match="known_positives"):
        mined(tmp_path / "mined", dataset, oracle=True)
