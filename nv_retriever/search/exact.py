"""Scores that are a function of the pair alone: the exact inner product, rounded once to fp64 and once to fp32.

Products of two fp32 numbers are exact in fp64; only their sum rounds. A fast sum in any order is accepted where its error
bound cannot move the fp32 result (all but a few pairs in a million); the others are summed exactly (Shewchuk's algorithm,
`math.fsum`). So blocks, threads, libraries, processors and devices cannot change a bit of a score.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch

from nv_retriever.ragged import Index
from nv_retriever.search.types import DoubleArray, FloatArray

_CELLS = 1 << 22
"""Numbers in one gathered chunk (32 MiB)."""
_LARGEST = float(np.finfo(np.float32).max)


def pair_scores(
    queries: torch.Tensor,
    documents: torch.Tensor,
    query_norms: DoubleArray,
    document_norms: DoubleArray,
    query_of: Index,
    document_of: Index,
) -> FloatArray:
    """Return the scores of pairs of rows, (p,) float32; beyond the range of fp32 they saturate, zeros are positive.

    `queries` (q, dim), `documents` (n, dim) hold fp32 values as float64, on one device; the norms (q,), (n,) are at
    least the rows' Euclidean norms. `document_of` (p,) ascends.
    """
    if not len(query_of):
        return np.empty(0, np.float32)
    sums = _sums(queries, documents, query_of, document_of)
    slack = (queries.shape[1] + 8) * 2.0**-53 * query_norms[query_of] * document_norms[document_of]
    low, high = _to_float32(sums - slack), _to_float32(sums + slack)
    doubtful = np.flatnonzero(low != high)
    if len(doubtful):
        high[doubtful] = _exact(queries, documents, query_of[doubtful], document_of[doubtful])
    high += np.float32(0)
    return high


def _to_float32(values: DoubleArray) -> FloatArray:
    return np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)


def _sums(queries: torch.Tensor, documents: torch.Tensor, query_of: Index, document_of: Index) -> DoubleArray:
    """Return fp64 inner products of pairs, in any order of summation, (p,)."""
    if queries.device.type != "cpu":
        return np.concatenate(
            [_gathered(queries, documents, query_of[c], document_of[c]) for c in _chunks(queries, query_of)]
        )
    if len(query_of) >= len(documents) * len(queries):
        table: DoubleArray = (documents @ queries.T).numpy()
        return table[document_of, query_of]
    starts = torch.from_numpy(np.searchsorted(document_of, np.arange(len(documents) + 1)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")
        wanted = torch.sparse_csr_tensor(
            starts,
            torch.from_numpy(query_of),
            torch.zeros(len(query_of), dtype=torch.float64),
            size=(len(documents), len(queries)),
            check_invariants=False,
        )
        sums: DoubleArray = torch.sparse.sampled_addmm(wanted, documents, queries.T, beta=0.0).values().numpy()
    return sums


def _gathered(queries: torch.Tensor, documents: torch.Tensor, query_of: Index, document_of: Index) -> DoubleArray:
    left = queries.index_select(0, torch.from_numpy(query_of).to(queries.device))
    left *= documents.index_select(0, torch.from_numpy(document_of).to(queries.device))
    sums: DoubleArray = left.sum(1).cpu().numpy()
    return sums


def _chunks(vectors: torch.Tensor, rows: Index) -> list[slice]:
    step = max(1, _CELLS // max(vectors.shape[1], 1))
    return [slice(start, start + step) for start in range(0, len(rows), step)]


def _exact(queries: torch.Tensor, documents: torch.Tensor, query_of: Index, document_of: Index) -> FloatArray:
    """Return the scores of the pairs that a fast sum leaves undecided: a sharper bound first, then the exact sum."""
    scores = np.empty(len(query_of), np.float32)
    dim = queries.shape[1]
    for part in _chunks(queries, query_of):
        left = queries.index_select(0, torch.from_numpy(query_of[part]).to(queries.device))
        left *= documents.index_select(0, torch.from_numpy(document_of[part]).to(queries.device))
        products: DoubleArray = left.cpu().numpy()
        sums = products.sum(axis=1)
        slack = (dim + 8) * 2.0**-53 * np.abs(products).sum(axis=1)
        low, high = _to_float32(sums - slack), _to_float32(sums + slack)
        doubtful = np.flatnonzero(low != high)
        high[doubtful] = _to_float32(np.array([math.fsum(row) for row in products[doubtful].tolist()]))
        scores[part] = high
    return scores
