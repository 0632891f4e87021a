"""Exact search returns the bits of a brute force, whatever the block, the budget, the precision of the proposals."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from vector_worlds import KINDS, ArrayVectors, brute_force, exclusions_of, true_score, vectors, worlds

from nv_retriever.config import Runtime
from nv_retriever.search import exact, sampling
from nv_retriever.search.mapped import gather
from nv_retriever.search.memory import PAIR_BYTES, BlockSizes, block_sizes
from nv_retriever.search.precision import BF16, FP32, INT8, Precision
from nv_retriever.search.prepared import prepare_documents, prepare_queries, upper_norms
from nv_retriever.search.rounds import rounds_of
from nv_retriever.search.types import Exclusions, TopK
from nv_retriever.search.vectors import VectorScorer

torch.set_num_threads(1)


class SizedScorer(VectorScorer):
    """With block sizes of the test's choice."""

    sizes: BlockSizes

    def block_sizes(self, k: int, precision: Precision | None = None) -> BlockSizes:
        return self.sizes


def scorer_of(queries, documents, precision, sizes=None):
    cls = VectorScorer if sizes is None else SizedScorer
    runtime = Runtime(device="cpu", memory_budget_mb=64)
    scorer = cls(ArrayVectors(queries), ArrayVectors(documents), "dot", runtime, precision)
    if sizes is not None:
        scorer.sizes = sizes
    return scorer


def assert_same(found, expected):
    np.testing.assert_array_equal(found.documents, expected.documents)
    np.testing.assert_array_equal(found.scores.view(np.uint32), expected.scores.view(np.uint32))
    np.testing.assert_array_equal(found.above, expected.above)


tiny_sizes = st.builds(
    BlockSizes,
    queries=st.integers(1, 10),
    documents=st.integers(1, 50),
    tile_queries=st.sampled_from([8, 16]),
    tile_documents=st.integers(1, 20),
    pairs=st.sampled_from([0, 7, 1000]),
)


@settings(max_examples=120, deadline=None)
@given(worlds(), st.sampled_from([FP32, BF16, INT8]), tiny_sizes, st.booleans())
def test_search_has_the_bits_of_a_brute_force(world, precision, sizes, by_sample):
    queries, documents, k, excluded, limits = world
    scorer = scorer_of(queries, documents, precision, sizes)
    before = sampling.FEWEST
    sampling.FEWEST = 8 if by_sample else before
    try:
        found = scorer.search(np.arange(len(queries)), k, excluded, limits)
    finally:
        sampling.FEWEST = before
    assert_same(found, brute_force(queries, documents, k, excluded, limits))
    rows, columns = np.nonzero(found.documents >= 0)
    pairs = scorer.score_pairs(rows, found.documents[rows, columns])
    np.testing.assert_array_equal(pairs.view(np.uint32), found.scores[rows, columns].view(np.uint32))


@settings(max_examples=120, deadline=None)
@given(worlds(), st.sampled_from([FP32, BF16, INT8]), tiny_sizes, st.booleans(), st.data())
def test_rows_that_repeat_queries_have_the_bits_of_a_brute_force(world, precision, sizes, same_exclusions, data):
    queries, documents, k, excluded, _ = world
    rows = np.array(data.draw(st.lists(st.integers(0, len(queries) - 1), min_size=1, max_size=24)), np.int64)
    scorer = scorer_of(queries, documents, precision, sizes)
    at = np.array([data.draw(st.integers(0, len(documents) - 1)) for _ in rows], np.int64)
    special = [np.float32(value) for value in (-np.inf, np.inf, np.nan, 0)]
    limits = scorer.score_pairs(rows, at)
    limits = np.array([data.draw(st.sampled_from([limit, limit, *special])) for limit in limits], np.float32)
    limits = None if data.draw(st.booleans()) else limits
    exclusions = excluded.take(rows if same_exclusions else rows[::-1])
    found = scorer.search(rows, k, exclusions, limits)
    assert_same(found, brute_force(queries[rows], documents, k, exclusions, limits))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 9), st.integers(0, 9))
def test_rounds_lay_each_row_at_its_query_s_column(queries, low, more):
    queries = np.array(queries)
    rounds = rounds_of(queries, Exclusions.none(len(queries)))
    assert rounds.spans[0].stop % 8 == 0
    assert len(set(rounds.places.tolist())) == len(queries)
    np.testing.assert_array_equal(queries[rounds.first[rounds.columns[rounds.places]]], queries)
    values = np.full(len(rounds.columns), np.inf, np.float32)
    values[rounds.places] = np.arange(len(queries))
    firsts = [np.flatnonzero(queries == query)[0] for query in queries[rounds.first]]
    np.testing.assert_array_equal(rounds.least(values)[: len(firsts)], firsts)
    rows = [row for part in rounds.within(low, low + more) for row in range(part.start, part.stop)]
    assert rows == [row for row, column in enumerate(rounds.columns) if low <= column < low + more]


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["", "a", "b", "ab", "ba"])), min_size=1, max_size=20))
def test_rows_share_a_column_where_query_and_exclusions_are_the_same(rows):
    excluded = exclusions_of([["abc".index(one) for one in names] for _, names in rows])
    rounds = rounds_of(np.array([query for query, _ in rows]), excluded)
    pairs = [(query, frozenset(names)) for query, names in rows]
    columns = rounds.columns[rounds.places].tolist()
    assert len(rounds.first) == len(set(pairs)) == len({*zip(pairs, columns, strict=True)})


@settings(max_examples=30, deadline=None)
@given(worlds(), tiny_sizes)
def test_pair_scores_are_the_exact_product_rounded(world, sizes):
    queries, documents, *_ = world
    scorer = scorer_of(queries, documents, FP32, sizes)
    rows, columns = (axis.ravel() for axis in np.meshgrid(np.arange(len(queries)), np.arange(len(documents))))
    expected = np.array([true_score(queries[q], documents[d]) for q, d in zip(rows, columns, strict=True)])
    np.testing.assert_array_equal(scorer.score_pairs(rows, columns), expected)
    bad = np.flatnonzero(~np.isfinite(documents).all(axis=1))
    assert scorer.quarantined_documents.tolist() == bad.tolist()
    assert scorer.quarantined_queries.tolist() == np.flatnonzero(~np.isfinite(queries).all(axis=1)).tolist()


def by_scoring_every_pair(scorer, queries, documents, k, excluded, limits):
    """An oracle for larger worlds: all pair scores, sorted."""
    rows, columns = (axis.ravel() for axis in np.meshgrid(np.arange(queries), np.arange(documents), indexing="ij"))
    scores = scorer.score_pairs(rows, columns).reshape(queries, documents).astype(np.float64)
    for query in range(queries):
        scores[query, excluded.documents[excluded.offsets[query] : excluded.offsets[query + 1]]] = np.nan
    allowed = ~np.isnan(scores)
    below = allowed if limits is None else allowed & (scores < limits[:, None])
    order = np.argsort(np.where(below, -scores, np.inf), axis=1, kind="stable")[:, :k]
    there = np.take_along_axis(below, order, axis=1)
    found = np.where(there, np.take_along_axis(scores, order, axis=1), np.nan).astype(np.float32)
    above = np.zeros(queries, np.int64) if limits is None else (allowed & (scores >= limits[:, None])).sum(axis=1)
    return TopK(np.where(there, order, -1).astype(np.int32), found, above)


@pytest.mark.parametrize("precision", [FP32, BF16, INT8], ids=lambda precision: precision.name)
@pytest.mark.parametrize("order", ["shuffled", "sorted by topic"])
@pytest.mark.parametrize("limited", [False, True])
def test_guesses_from_a_sample_never_change_a_result(precision, order, limited, monkeypatch):
    monkeypatch.setattr(sampling, "FEWEST", 64)
    rng = np.random.default_rng(7)
    topics = rng.integers(0, 40, 3000)
    topics = np.sort(topics) if order == "sorted by topic" else topics
    centres = rng.standard_normal((40, 24))
    documents = (centres[topics] + 0.2 * rng.standard_normal((3000, 24))).astype(np.float32)
    documents[::50] = documents[0]
    queries = (centres[rng.integers(0, 40, 33)] + 0.2 * rng.standard_normal((33, 24))).astype(np.float32)
    queries[3] = 0
    excluded = exclusions_of([rng.choice(3000, 90, replace=False).tolist() for _ in range(33)])
    sizes = BlockSizes(queries=24, documents=700, tile_queries=16, tile_documents=256, pairs=1500)
    scorer = scorer_of(queries, documents, precision, sizes)
    pairs = scorer_of(queries, documents, precision)
    limits = pairs.score_pairs(np.arange(33), rng.integers(0, 3000, 33)) if limited else None
    for k in (1, 300):
        found = scorer.search(np.arange(33), k, excluded, limits)
        assert_same(found, by_scoring_every_pair(pairs, 33, 3000, k, excluded, limits))


@pytest.mark.parametrize("precision", [FP32, BF16, INT8], ids=lambda precision: precision.name)
def test_several_limits_of_a_query_never_change_a_result(precision, monkeypatch):
    monkeypatch.setattr(sampling, "FEWEST", 64)
    rng = np.random.default_rng(8)
    documents, queries = (rng.standard_normal((n, 24)).astype(np.float32) for n in (3000, 20))
    excluded = exclusions_of([rng.choice(3000, 90, replace=False).tolist() for _ in range(20)])
    sizes = BlockSizes(queries=50, documents=700, tile_queries=8, tile_documents=256, pairs=1500)
    scorer, pairs = scorer_of(queries, documents, precision, sizes), scorer_of(queries, documents, precision)
    rows = rng.permutation(np.repeat(np.arange(20), rng.integers(0, 9, 20)))
    limits = pairs.score_pairs(rows, rng.integers(0, 3000, len(rows)))
    found = scorer.search(rows, 5, excluded.take(rows), limits)
    every = [by_scoring_every_pair(pairs, 20, 3000, 5, excluded, np.full(20, limit)) for limit in limits]
    expected = [[getattr(one, name)[row] for one, row in zip(every, rows, strict=True)] for name in vars(found)]
    assert_same(found, TopK(*map(np.array, expected)))


def test_threads_and_the_default_blocks_give_the_same_bits():
    rng = np.random.default_rng(5)
    queries, documents = (rng.standard_normal((n, 12)).astype(np.float32) for n in (40, 5000))
    excluded = exclusions_of([rng.choice(5000, 20, replace=False).tolist() for _ in range(40)])
    expected = scorer_of(queries, documents, FP32).search(np.arange(40), 10, excluded)
    sizes = BlockSizes(queries=40, documents=5000, tile_queries=8, tile_documents=4096, pairs=1 << 20)
    torch.set_num_threads(2)
    try:
        assert_same(scorer_of(queries, documents, BF16, sizes).search(np.arange(40), 10, excluded), expected)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("budget", [16, 17 * 2**10])
@pytest.mark.parametrize(("dim", "k"), [(1, 1), (384, 112), (4096, 10_000)])
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("cell", [2, 4])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_blocks_fit_the_budget(budget, dim, k, threads, cell, device):
    sizes = block_sizes(budget * 2**20, dim, k, cell, threads, device)
    tiles = threads * ((cell + 2) * sizes.tile_queries * sizes.tile_documents + sizes.pairs * PAIR_BYTES)
    memory = sizes.queries * (12 * dim + 8 * k) + sizes.documents * 12 * dim + tiles
    assert memory <= budget * 2**20 or sizes.queries == 8
    assert sizes.tile_queries % 8 == 0 and sizes.tile_documents <= sizes.documents


def test_sums_on_a_gpu_and_on_a_cpu_are_of_the_same_pairs():
    rng = np.random.default_rng(2)
    queries, documents = (torch.from_numpy(rng.standard_normal((n, 16))) for n in (5, 30))
    document_of = np.sort(rng.integers(0, 30, 200))
    query_of = rng.integers(0, 5, 200)
    gathered = exact._gathered(queries, documents, query_of, document_of)
    np.testing.assert_allclose(gathered, exact._sums(queries, documents, query_of, document_of), rtol=1e-12, atol=1e-14)


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.integers(-100, 100))
def test_norms_are_never_too_small_and_hardly_too_large(kind, seed, exponent):
    with np.errstate(over="ignore"):
        rows = (vectors(kind, np.random.default_rng(seed), 8, 13) * np.float64(2) ** exponent).astype(np.float32)
    rows = rows.astype(np.float64)
    ordinary = np.isfinite(rows).all(axis=1)
    true = np.array([math.sqrt(math.fsum((row * row).tolist())) for row in rows])
    norms, finite = upper_norms(torch.from_numpy(rows))  # which zeroes what is not finite
    assert finite.tolist() == ordinary.tolist()
    assert ((true <= norms) & (norms <= true * (1 + 1e-11)))[finite].all()
    assert not rows[~finite].any() and not norms[~finite].any()


@pytest.mark.parametrize("rows", [range(0), range(700), range(31, 5000), [3, 4, 6], [9, 2, 2], range(40, 20, -1)])
def test_gathered_rows_are_those_that_were_asked_for(rows):
    array = np.arange(15_000, dtype=np.float32).reshape(5000, 3)
    found = gather(ArrayVectors(array), np.array(rows, np.int64), padding=2)
    np.testing.assert_array_equal(found, np.concatenate([array[list(rows)], np.zeros((2, 3))]))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.sampled_from([FP32, BF16, INT8]))
def test_no_document_that_reaches_the_threshold_is_negative(kind, other, seed, precision):
    rng = np.random.default_rng(seed)
    queries = prepare_queries(vectors(kind, rng, 8, 13), precision, "cpu")
    documents = prepare_documents(vectors(other, rng, 25, 13), precision, "cpu")
    true = documents.vectors.numpy() @ queries.vectors.double().numpy().T
    thresholds = true[rng.integers(0, 25, 8), np.arange(8)]
    added = queries.side.set_thresholds(torch.from_numpy(thresholds), documents.side)
    products = queries.side.against(documents.side, slice(0, 8))(slice(0, 25))
    assert not np.signbit(products.float().numpy()[true >= thresholds]).any()
    unit = queries.side.scales.numpy() * documents.side.scale
    values = products.double().numpy()
    lower = values * np.where(values > 0, 1 - precision.rounding, 1 + precision.rounding)
    lower -= queries.side.widths(added, documents.side).numpy()
    assert (lower <= true / unit + added.numpy() + 1e-12).all()
