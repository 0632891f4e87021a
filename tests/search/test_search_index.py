"""Approximate indexes: names round-trip, scores stay exact, short queries are completed, k has no ceiling."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from vector_worlds import ArrayVectors, brute_force, exclusions_of, true_score

from nv_retriever.config import Runtime
from nv_retriever.errors import InputError
from nv_retriever.search.approximate import INDEX_FILE, approximate_scorer
from nv_retriever.search.index import PARAMETERS, IndexName
from nv_retriever.search.types import Exclusions
from nv_retriever.search.vectors import VectorScorer

torch.set_num_threads(1)
NAMES = ["flat", "ivf(nlist=8, nprobe=4)", "ivfpq(nlist=8, nprobe=4, m=4, bits=4)", "hnsw(m=8)"]


def exact_scorer(n=300, dim=16, queries=20):
    rng = np.random.default_rng(1)
    documents = rng.standard_normal((n, dim)).astype(np.float32)
    documents[5] = np.inf
    return VectorScorer(
        ArrayVectors(rng.standard_normal((queries, dim))), ArrayVectors(documents), "dot", Runtime(device="cpu")
    )


@pytest.mark.parametrize("kind", PARAMETERS)
def test_names_round_trip(kind):
    name = IndexName.parse(kind)
    assert IndexName.parse(str(name)) == name and str(IndexName.parse(f" {name} ")) == str(name)


@pytest.mark.parametrize("text", ["ivff", "ivf(nlist)", "ivf(nprobes=3)", "hnsw(m=0)", "exact(k=3)", "ivf(nlist=1.5)", ""])
def test_wrong_names_are_refused(text):
    with pytest.raises(InputError, match="index"):
        IndexName.parse(text)


@pytest.mark.parametrize("text", NAMES)
def test_found_documents_are_allowed_and_exactly_scored(text, tmp_path):
    exact = exact_scorer()
    scorer = approximate_scorer(exact, text, tmp_path)
    excluded = exclusions_of([[q, q + 50, q + 51] for q in range(20)])
    found = scorer.search(np.arange(20), 10, excluded)
    for query in range(20):
        rows = found.documents[query]
        assert len(set(rows.tolist())) == 10 and (rows >= 0).all() and 5 not in rows
        assert not set(rows.tolist()) & {query, query + 50, query + 51}
        scores = [true_score(exact.queries.array[query], exact.documents.array[row]) for row in rows]
        assert scores == found.scores[query].tolist() == sorted(scores, reverse=True)
    assert 0.3 < scorer.measure_recall(10) <= 1
    reopened = approximate_scorer(exact, text, tmp_path)
    assert (tmp_path / INDEX_FILE).exists()
    np.testing.assert_array_equal(reopened.search(np.arange(20), 10, excluded).documents, found.documents)


def test_flat_equals_brute_force(tmp_path):
    exact = exact_scorer()
    scorer = approximate_scorer(exact, "flat", tmp_path)
    expected = brute_force(exact.queries.array, exact.documents.array, 10, Exclusions.none(20))
    found = scorer.search(np.arange(20), 10, Exclusions.none(20))
    np.testing.assert_array_equal(found.documents, expected.documents)
    assert scorer.measure_recall(10) == 1


@pytest.mark.parametrize("text", ["ivf(nlist=16, nprobe=1)", "hnsw(m=4)"])
def test_short_queries_and_searches_below_limits_are_exact(text, tmp_path):
    exact = exact_scorer()
    scorer = approximate_scorer(exact, text, tmp_path)
    excluded = Exclusions.none(20)
    deep = scorer.search(np.arange(20), 299, excluded)
    np.testing.assert_array_equal(deep.documents, exact.search(np.arange(20), 299, excluded).documents)
    limits = np.linspace(-2, 2, 20).astype(np.float32)
    below, expected = scorer.search(np.arange(20), 5, excluded, limits), exact.search(np.arange(20), 5, excluded, limits)
    np.testing.assert_array_equal(below.documents, expected.documents)
    np.testing.assert_array_equal(below.above, expected.above)


def test_k_beyond_the_gpu_limit_of_2048(tmp_path):
    exact = exact_scorer(n=2500, dim=4, queries=2)
    found = approximate_scorer(exact, "ivf(nlist=4, nprobe=4)", tmp_path).search(np.arange(2), 2300, Exclusions.none(2))
    np.testing.assert_array_equal(found.documents, exact.search(np.arange(2), 2300, Exclusions.none(2)).documents)
