"""`from nv_retriever import mine`: arrays and ids in, a typed result out."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nv_retriever import mine
from nv_retriever.errors import InputError


def unit(rng, n, dim=8):
    vectors = rng.normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def world(seed=0, n_q=12, n_d=60):
    rng = np.random.default_rng(seed)
    documents = unit(rng, n_d)
    queries = documents[:n_q] + 0.5 * unit(rng, n_q)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    positives = {f"q{i}": [f"d{i}"] if i % 3 else [f"d{i}", f"d{i + 20}"] for i in range(n_q)}
    return queries, documents, positives, [f"q{i}" for i in range(n_q)], [f"d{i}" for i in range(n_d)]


def triples(result):
    names = ("query_id", "positive_id", "negative_id", "position", "rank", "negative_score", "reason")
    return sorted(zip(*(result.table.column(name).to_pylist() for name in names), strict=True))


def test_rows_and_ids_agree_and_scores_are_dot_products():
    queries, documents, positives, query_ids, document_ids = world()
    found = mine(queries, documents, positives, query_ids=query_ids, document_ids=document_ids, negatives=3)
    assert found.table.column("query_id").to_pylist() == [query_ids[row] for row in found.query]
    assert found.table.column("negative_id").to_pylist() == [document_ids[row] for row in found.negative]
    expected = (queries[found.query].astype(np.float64) * documents[found.negative]).sum(axis=1)
    assert np.allclose(found.negative_score, expected, atol=1e-6)
    assert (found.negative_score < 0.95 * found.positive_score).all()
    assert found.statistics["triples"] == len(found) == len(found.to_pandas())
    assert repr(found) == "<MiningResult: 46 negatives for 16 samples of 12 queries, 1 of them short>"


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 5),
    depth=st.sampled_from([1, 3, 60]),
    rule=st.sampled_from(["topk", "topk-shift(5)", "topk-percpos(0.8)"]),
    selection=st.sampled_from(["top(3)", "sample(2, of=6)", "top1+sample(2, of=4)"]),
    order=st.randoms(use_true_random=False),
)
def test_order_of_the_input_and_depth_change_nothing(seed, depth, rule, selection, order):
    queries, documents, positives, query_ids, document_ids = world(seed)
    settings_of = {"rule": rule, "selection": selection, "shortfall": "random"}
    first = mine(queries, documents, positives, query_ids=query_ids, document_ids=document_ids, **settings_of)
    q, d = list(range(len(queries))), list(range(len(documents)))
    order.shuffle(q)
    order.shuffle(d)
    pairs = [(query, document) for query, several in positives.items() for document in several]
    order.shuffle(pairs)
    again = mine(
        queries[q], documents[d], pairs, query_ids=[query_ids[i] for i in q], document_ids=[document_ids[i] for i in d],
        depth=depth, **settings_of,
    )  # fmt: skip
    reasons = {"deepened": "kept"}
    assert [t[:6] for t in triples(first)] == [t[:6] for t in triples(again)]
    assert [reasons.get(t[6], t[6]) for t in triples(first)] == [reasons.get(t[6], t[6]) for t in triples(again)]


def test_a_draw_depends_on_the_seed_and_follows_the_softmax():
    rng = np.random.default_rng(1)
    documents = unit(rng, 6, 4)
    queries = np.repeat(documents[:1], 3000, axis=0)
    found = mine(3 * queries, documents, [(i, 0) for i in range(3000)], rule="topk", selection="sample(1, of=5)")
    scores = 3 * documents[1:] @ documents[0]
    share = np.bincount(found.negative, minlength=6)[1:] / 3000
    assert np.abs(share - np.exp(scores) / np.exp(scores).sum()).max() < 0.03
    other = mine(3 * queries, documents, [(i, 0) for i in range(3000)], rule="topk", selection="sample(1, of=5)", seed=1)
    assert (other.negative != found.negative).any()


def test_texts_exclude_copies_and_the_query_itself():
    vectors = np.array([[1, 0], [1, 0], [0.9, 0.1], [0.8, 0.2]], np.float32)
    texts = ["A cat.", "a  CAT.", "what is a cat?", "a dog"]
    found = mine(vectors[:1], vectors, {0: 0}, query_texts=["What is a cat?"], document_texts=texts, rule="topk")
    assert found.negative.tolist() == [3]
    assert found.short.column("reason").to_pylist() == ["exhausted"]


def test_near_duplicates_of_a_positive_are_no_negatives():
    vectors = np.array([[1, 0, 0], [0.999, 0.04, 0], [0.7, 0.7, 0], [0.6, 0.6, 0.5]], np.float32)
    query = np.array([[0.9, 0.2, 0]], np.float32)
    assert mine(query, vectors, {0: 0}, rule="topk", negatives=1).negative.tolist() == [1]
    found = mine(query, vectors, {0: 0}, rule="topk", negatives=1, near_duplicates=0.95)
    assert found.negative.tolist() == [2] and found.statistics["near_duplicates"] == 1
    assert found.rank.tolist() == [2]
    shallow = mine(query, vectors, {0: 0}, rule="topk", negatives=1, near_duplicates=0.95, deepen=False)
    assert shallow.negative.tolist() == [2] and shallow.statistics["near_duplicates"] == 1


def test_near_duplicates_of_a_positive_of_the_same_query_text_are_no_negatives():
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0.04, 0.999, 0], [0.3, 0.3, 0.9]], np.float32)
    queries, texts = np.array([[0.7, 0.7, 0]] * 2, np.float32), ["What is it?", "what is  it?"]
    found = mine(queries, vectors, {0: 0, 1: 1}, query_texts=texts, rule="topk", negatives=1, near_duplicates=0.95)
    assert found.negative.tolist() == [3, 3]


def test_a_table_that_ends_where_the_corpus_does_is_exhausted_without_a_search():
    vectors = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], np.float32)
    for depth, reason in ((2, "not-searched"), (3, "exhausted"), (4, "exhausted")):
        found = mine(vectors[:1], vectors, {0: 0}, rule="topk-abs(0.7)", depth=depth, deepen=False)
        assert found.short.column("reason").to_pylist() == [reason], depth


def test_a_tuple_is_several_documents_unless_it_is_an_id():
    vectors = np.eye(3, dtype=np.float32)
    assert mine(vectors[:1], vectors, {0: (1, 2)}, rule="topk").table.num_rows == 2
    ids = [("a", 1), ("a", 2), ("a", 3)]
    found = mine(vectors[:1], vectors, {0: ("a", 2)}, document_ids=ids, rule="topk")
    assert set(found.positive.tolist()) == {1}


def test_ids_and_texts_may_be_arrays_tensors_and_columns_of_data_frames():
    vectors = np.eye(3, dtype=np.float32)
    texts, ids = ["x", "y", "x"], [7, 8, 9]
    plain = mine(vectors[:1], vectors, {0: 7}, document_ids=ids, document_texts=texts, rule="topk")
    assert plain.negative.tolist() == [1]
    columns = pd.Series(ids, index=[2, 1, 0]), pd.Series(texts, index=[2, 1, 0])
    tensors = torch.tensor(ids), pa.array(texts)
    for given_ids, given_texts in ((np.array(ids), np.array(texts)), columns, tensors, (iter(ids), iter(texts))):
        found = mine(vectors[:1], vectors, {0: 7}, document_ids=given_ids, document_texts=given_texts, rule="topk")
        assert found.table.equals(plain.table)


def test_what_excludes_a_document_of_vectors_is_its_id_alone_and_only_where_ids_mean_the_same():
    vectors = np.eye(4, dtype=np.float32)
    numbered = {"query_ids": [2], "document_ids": [0, 1, 2, 3], "rule": "topk", "negatives": 3}
    assert 2 not in mine(vectors[:1], vectors, {2: 0}, **numbered).negative.tolist()
    assert 2 in mine(vectors[:1], vectors, {2: 0}, **numbered, exclude_same_id=False).negative.tolist()
    found = mine(vectors[:1], vectors, {0: 0}, query_texts=["document 3"], rule="topk", negatives=3)
    assert sorted(found.negative.tolist()) == [1, 2, 3]


@pytest.mark.parametrize(
    "change,where",
    [
        ({"positives": {0: 99}}, "positives"),
        ({"positives": {}}, "positives"),
        ({"positives": [[0], [1]]}, "positives"),
        ({"positives": np.arange(2)}, "positives"),
        ({"positives": ["01"]}, "positives"),
        ({"positives": None}, "positives"),
        ({"positives": 3}, "positives"),
        ({"positives": [(0, [0])]}, "positives"),
        ({"query_ids": ["a", "a"]}, "query_ids"),
        ({"query_ids": "ab"}, "query_ids"),
        ({"query_ids": [["a"], ["b"]]}, "query_ids"),
        ({"query_texts": "ab"}, "query_texts"),
        ({"document_texts": 3}, "document_texts"),
        ({"document_texts": ["x"]}, "document_texts"),
        ({"document_texts": ["x", " ", "y"]}, "document_texts"),
        ({"rule": "topk-best"}, "rule"),
        ({"selection": "sample(4, of=2)"}, "selection"),
        ({"negativs": 3}, "mine"),
        ({"ensemble": "cross-sample"}, "ensemble"),
        ({"judge_margin": 2.0}, "judge_margin"),
        ({"judge_margin": 2.0, "judge": "chat:http://127.0.0.1:9#m"}, "judge_margin"),
        ({"judge": "chat:http://127.0.0.1:9#m"}, "judge"),
        ({"min_score": float("nan")}, "mine min_score"),
        ({"depth": 0}, "depth"),
        ({"depth": "100"}, "depth"),
        ({"seed": "7"}, "seed"),
        ({"negatives": "4"}, "negatives"),
        ({"negatives": 2.0}, "negatives"),
        ({"config": {"rule": "topk"}}, "config"),
        ({"shortfall": "relax", "deepen": False}, "shortfall relax"),
        ({"queries": ["a", "b"]}, "queries"),
        ({"queries": torch.eye(2, requires_grad=True)}, "queries"),
        ({"queries": torch.eye(2, dtype=torch.bfloat16)}, "queries"),
        ({"queries": np.array([[np.nan, 1], [0, 1]])}, "queries"),
        ({"rule": "topk-abs(0.5)", "documents": np.full((3, 2), 5.0)}, "rule topk-abs(0.5)"),
    ],
)
def test_mistakes_are_named(change, where):
    arguments = {"queries": np.eye(2), "documents": np.eye(2)[[0, 1, 0]], "positives": {0: 0}} | change
    with pytest.raises(InputError) as error:
        mine(**arguments)
    assert error.value.where.startswith(where)


def test_an_id_that_differs_in_its_type_only_is_pointed_at():
    with pytest.raises(InputError, match="expected a known query, found '7'; the ids have 7: int, not str"):
        mine(np.eye(2), np.eye(2), {"7": 0}, query_ids=[7, 8])
