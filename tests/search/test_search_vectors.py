"""Exact search returns the bits of a brute force, whatever the block, the budget, the precision of the proposals."""

import sys
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from vector_worlds import ArrayVectors, brute_force, true_score, worlds

from nv_retriever.config import Runtime
from nv_retriever.search import sampling
from nv_retriever.search.memory import BlockSizes
from nv_retriever.search.proposals import BF16, FP32
from nv_retriever.search.vectors import VectorScorer

torch.set_num_threads(1)


class SizedScorer(VectorScorer):
    """With block sizes of the test's choice."""

    sizes: BlockSizes

    def block_sizes(self, k: int) -> BlockSizes:
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
@given(worlds(), st.sampled_from([FP32, BF16]), tiny_sizes, st.booleans())
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
