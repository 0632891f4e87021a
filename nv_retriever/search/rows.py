"""Vectors made ready for a search: float64 for exact scores, scaled and rounded for proposals; what is not finite is out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nv_retriever.search.proposals import EXTRA, Factor, Precision, as_documents, as_queries, factor, power_of_two_above
from nv_retriever.search.types import FloatArray

DoubleArray = npt.NDArray[np.float64]


@dataclass
class Rows:
    """Vectors ready for products: float64 for exact scores, a Factor for proposals."""

    vectors: torch.Tensor
    """(n, dim): float64 for documents, float32 for queries."""
    norms: DoubleArray
    """(n,) float64, at least the Euclidean norms."""
    finite: npt.NDArray[np.bool_]
    factor: Factor


def prepare_documents(block: FloatArray, precision: Precision, device: str) -> Rows:
    """Return a block of documents (n, dim), scaled together; rows that are not finite become zeros."""
    vectors = torch.from_numpy(block.astype(np.float64)).to(device)
    norms, finite = _norms(vectors)
    scale = power_of_two_above(norms.amax().reshape(1) if len(norms) else norms.new_ones(1))
    out = torch.empty(len(block), block.shape[1] + EXTRA, dtype=precision.dtype, device=device)
    side = factor(vectors, norms, scale.expand(len(block)), precision, out)
    as_documents(side)
    return Rows(vectors, _upper(norms), finite, side)


def prepare_queries(vectors: FloatArray, precision: Precision, device: str) -> Rows:
    """Return queries (n, dim), each with its own scale; rows that are not finite become zeros."""
    single = torch.from_numpy(np.array(vectors, np.float32)).to(device)
    double = single.double()
    norms, finite = _norms(double)
    single[torch.from_numpy(~finite).to(device)] = 0
    out = torch.empty(len(vectors), vectors.shape[1] + EXTRA, dtype=precision.dtype, device=device)
    side = factor(double, norms, power_of_two_above(norms), precision, out)
    as_queries(side)
    return Rows(single, _upper(norms), finite, side)


def _norms(vectors: torch.Tensor) -> tuple[torch.Tensor, npt.NDArray[np.bool_]]:
    norms = torch.linalg.vector_norm(vectors, dim=1)
    finite = torch.isfinite(norms)
    if not bool(finite.all()):
        vectors[~finite] = 0
        norms = torch.where(finite, norms, torch.zeros_like(norms))
    return norms, finite.cpu().numpy()


def norms_of(vectors: torch.Tensor) -> tuple[DoubleArray, npt.NDArray[np.bool_]]:
    """Return at least the norms of float64 rows, and which are finite; the others become zeros, in place."""
    norms, finite = _norms(vectors)
    return _upper(norms), finite


def _upper(norms: torch.Tensor) -> DoubleArray:
    upper: DoubleArray = norms.cpu().numpy() * (1 + 2.0**-40)
    return upper
