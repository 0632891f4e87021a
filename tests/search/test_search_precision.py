"""Sums of int8 products are exact, and the format of the proposals is the one that pays."""

import numpy as np
import pytest
import torch

from nv_retriever.mining.arrays import ArrayVectors
from nv_retriever.search import int8_products, precision_below
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
    assert VectorScorer(vectors, vectors, "dot").precision(1) is many


def test_below_limits_the_format_hangs_on_how_much_lies_near_them(monkeypatch):
    monkeypatch.setattr(precision_below, "SMALL", 0)
    rng = np.random.default_rng(0)
    queries, documents = (rng.standard_normal((n, 48)).astype(np.float32) for n in (50, 3000))
    for array in (queries, documents):
        array /= np.linalg.norm(array, axis=1, keepdims=True)
    scorer = VectorScorer(ArrayVectors(queries), ArrayVectors(documents), "cosine")
    rows = np.repeat(np.arange(50), 6)
    far, amid = np.full(300, 0.99, np.float32), np.zeros(300, np.float32)
    other = float_precision("cpu")
    assert scorer.precision(4, rows, far) is (INT8 if other is FP32 and int8_products.fast() else other)
    assert scorer.precision(4, rows, amid) is FP32, "three documents in ten are within the bound of each limit"
    assert scorer.precision(4, rows, np.full(300, np.nan, np.float32)) is FP32
    monkeypatch.undo()
    assert scorer.precision(4, rows, far) is FP32, "so little takes no longer than looking at a sample"
