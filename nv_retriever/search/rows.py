"""Vectors made ready for a search: float64 for exact scores, scaled and rounded for proposals; what is not finite is out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nv_retriever.search.proposals import Factor, Precision, as_documents, as_queries, power_of_two_above
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


Parts = Callable[[Callable[[slice], None], int], None]
"""Calls a function for slices that cover so many rows, maybe in several threads."""
_ROWS = 512
"""Rows that are prepared at once, so that temporaries stay in the cache."""
_ORDINARY = (2.0**-50, 2.0**60)
"""fp32 norms between these are right but for rounding."""


def one_by_one(work: Callable[[slice], None], rows: int) -> None:
    """Call `work` for slices that cover the rows, in order."""
    for part in slices(rows):
        work(part)


def slices(rows: int) -> list[slice]:
    """Return slices that cover the rows."""
    return [slice(start, min(start + _ROWS, rows)) for start in range(0, rows, _ROWS)]


def prepare_documents(
    block: FloatArray, precision: Precision, device: str, parts: Parts = one_by_one, memory: Rows | None = None
) -> Rows:
    """Return a block of documents (n, dim), scaled together; rows that are not finite become zeros.

    What `memory` holds, at least as many rows, is overwritten where it is given: fresh pages cost more than the rest.
    """
    n, dim = block.shape
    vectors = torch.empty(n, dim, dtype=torch.float64, device=device) if memory is None else memory.vectors[:n]
    norms, finite = vectors.new_empty(n), np.empty(n, bool)

    def convert(part: slice) -> None:
        """Fill some rows of the vectors, their norms, and which are finite."""
        rows = _single(block[part], device)
        norms[part], finite[part] = norms_of(rows)
        vectors[part] = rows

    def fill(part: slice) -> None:
        """Fill some rows of the factor."""
        rows = _single(block[part], device)
        if not finite[part].all():
            rows[torch.from_numpy(~finite[part]).to(device)] = 0
        side.fill(part, rows)

    parts(convert, n)
    scale = power_of_two_above(norms.amax().reshape(1) if n else norms.new_ones(1))
    side = Factor.empty(precision, norms, scale.expand(n), dim, None if memory is None else memory.factor.rows)
    parts(fill, n)
    as_documents(side)
    return Rows(vectors, norms.cpu().numpy(), finite, side)


def prepare_queries(vectors: FloatArray, precision: Precision, device: str, parts: Parts = one_by_one) -> Rows:
    """Return queries (n, dim), each with its own scale; rows that are not finite become zeros, in `vectors` too on a CPU."""
    single = torch.from_numpy(vectors).to(device)
    norms, finite = torch.empty(len(vectors), dtype=torch.float64, device=device), np.empty(len(vectors), bool)

    def convert(part: slice) -> None:
        """Fill the norms of some rows, and which are finite."""
        norms[part], finite[part] = norms_of(single[part])

    parts(convert, len(vectors))
    side = Factor.empty(precision, norms, power_of_two_above(norms), vectors.shape[1])
    parts(lambda part: side.fill(part, single[part]), len(vectors))
    as_queries(side)
    return Rows(single, norms.cpu().numpy(), finite, side)


def norms_of(vectors: torch.Tensor) -> tuple[torch.Tensor, npt.NDArray[np.bool_]]:
    """Return at least the norms (n,) float64 of fp32 rows (n, dim), and which are finite; the others become zeros, in place.

    Norms whose squares neither overflow nor underflow are summed in fp32, which loses at most dim 2^-24 of them.
    """
    norms = torch.linalg.vector_norm(vectors, dim=1).double()
    odd = torch.nonzero(~((norms > _ORDINARY[0]) & (norms < _ORDINARY[1]))).view(-1)
    norms *= 1 + (vectors.shape[1] + 8) * 2.0**-23
    if len(odd):
        norms[odd] = torch.linalg.vector_norm(vectors[odd].double(), dim=1) * (1 + 2.0**-40)
    finite = torch.isfinite(norms)
    if not bool(finite.all()):
        vectors[~finite] = 0
        norms[~finite] = 0
    return norms, finite.cpu().numpy()


def _single(values: FloatArray, device: str) -> torch.Tensor:
    """Return a copy of fp32 rows, which may be mapped from a file."""
    return torch.from_numpy(np.array(values)).to(device)
