"""Sums of int8 products are exact, and the format of the proposals is the one that pays."""

import numpy as np
import pytest
import torch

from nv_retriever.mining.arrays import ArrayVectors
from nv_retriever.search import int8_products
from nv_retriever.search.int8_products import SIGNED, UNSIGNED, ZERO
from nv_retriever.search.precision import BF16, FP32, INT8, INT8_PAYS, fastest_precision, float_precision
from nv_retriever.search.vectors import VectorScorer


@pytest.mark.parametrize("dim", [1, 30, 384, 1027])
@pytest.mark.parametrize("extreme", [False, True])
def test_sums_of_integers_are_exact(dim, extreme):
    rng = np.random.default_rng(dim)
    left, right = rng.integers(-UNSIGNED, UNSIGNED + 1, (300, dim)), rng.integers(-SIGNED, SIGNED + 1, (520, dim))
    if extreme:
        left, right = np.sign(left) * UNSIGNED, np.sign(right) * SIGNED
        left[:40], right[:40] = UNSIGNED, -SIGNED
    packed = int8_products.pack(torch.from_numpy(right.astype(np.int8)), torch.full((520,), 0.25))
    documents = torch.from_numpy((left + ZERO).astype(np.uint8))
    found = int8_products.multiply(documents, 0.5, packed, torch.full((520,), 3.0))
    np.testing.assert_array_equal(found.numpy(), left @ right.T * 0.125 + 3)


def test_int8_proposes_on_processors_without_bf16_where_documents_are_many():
    other = float_precision("cpu")
    many = INT8 if other is FP32 and int8_products.fast() else other
    assert fastest_precision("cpu", 7, 7 * INT8_PAYS) is many
    assert fastest_precision("cpu", 7, 7 * INT8_PAYS - 1) is other
    assert fastest_precision("cuda", 7, 10**9) in (FP32, BF16)
    vectors = ArrayVectors(np.ones((INT8_PAYS, 3), np.float32))
    scorer = VectorScorer(vectors, vectors, "dot")
    assert scorer.precision(1) is many
    assert scorer._precision_below(np.arange(4)) is other
