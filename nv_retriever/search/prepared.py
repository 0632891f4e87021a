"""Vectors prepared for a search: float64 for exact scores, scaled and rounded for proposals; what is not finite is out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from nv_retriever.search.float_proposals import FloatDocuments, FloatQueries
from nv_retriever.search.int8_proposals import Int8Documents, Int8Queries
from nv_retriever.search.precision import INT8, Precision
from nv_retriever.search.proposals import Documents, Parts, Queries, Side, power_of_two_above
from nv_retriever.search.types import DoubleArray, FloatArray

S = TypeVar("S", bound=Side)


@dataclass
class Prepared(Generic[S]):
    """Vectors of a block of documents, or of the queries of a pass; rows that are not finite are zeros."""

    vectors: torch.Tensor
    """(n, dim): float64 for documents, float32 for queries."""
    norms: DoubleArray
    """(n,) float64, at least the Euclidean norms."""
    finite: npt.NDArray[np.bool_]
    """(n,)."""
    side: S
    """The rows as a side of the product that proposes."""


_ROWS = 512
"""Rows that are prepared at once, so that temporaries stay in the cache."""


def one_by_one(work: Callable[[slice], None], rows: int) -> None:
    """Call `work` for slices that cover the rows, in order."""
    for part in slices(rows):
        work(part)


def slices(rows: int) -> list[slice]:
    """Return slices that cover the rows."""
    return [slice(start, min(start + _ROWS, rows)) for start in range(0, rows, _ROWS)]


def prepare_documents(
    block: FloatArray,
    precision: Precision,
    device: str,
    parts: Parts = one_by_one,
    memory: Prepared[Documents] | None = None,
) -> Prepared[Documents]:
    """Return a block of documents (n, dim), scaled together; rows that are not finite become zeros.

    What `memory` holds, at least as many rows, is overwritten where it is given: fresh pages cost more than the rest.
    """
    vectors = (
        torch.empty(block.shape, dtype=torch.float64, device=device) if memory is None else memory.vectors[: len(block)]
    )
    norms, finite = vectors.new_empty(len(block)), np.empty(len(block), bool)

    def convert(part: slice) -> None:
        """Fill some rows of the vectors, their norms, and which are finite."""
        _assign(vectors[part], block[part])
        norms[part], finite[part] = _norms(vectors[part])

    parts(convert, len(block))
    scales = power_of_two_above(norms.amax().reshape(1)).expand(len(block))
    rows = None if memory is None else memory.side.rows
    kind = Int8Documents if precision is INT8 else FloatDocuments
    side = kind(precision, norms, scales, block.shape[1], rows)
    side.fill(lambda part: vectors[part], parts)
    return Prepared(vectors, _upper(norms), finite, side)


def prepare_queries(vectors: FloatArray, precision: Precision, device: str, parts: Parts = one_by_one) -> Prepared[Queries]:
    """Return queries (n, dim), each with its own scale; rows that are not finite become zeros, in `vectors` too on a CPU."""
    single = torch.from_numpy(vectors).to(device)
    norms, finite = torch.empty(len(vectors), dtype=torch.float64, device=device), np.empty(len(vectors), bool)

    def convert(part: slice) -> None:
        """Fill the norms of some rows, and which are finite."""
        norms[part], finite[part] = _norms(single[part].double())

    parts(convert, len(vectors))
    single[torch.from_numpy(~finite).to(device)] = 0
    kind = Int8Queries if precision is INT8 else FloatQueries
    side = kind(precision, norms, power_of_two_above(norms), vectors.shape[1], None)
    side.fill(lambda part: single[part].double(), parts)
    return Prepared(single, _upper(norms), finite, side)


def _assign(target: torch.Tensor, values: FloatArray) -> None:
    """Copy fp32 rows, which may be mapped from a file, into float64 ones."""
    if target.device.type == "cpu":
        np.copyto(target.numpy(), values)
    else:
        target.copy_(torch.from_numpy(np.array(values)))


def _norms(vectors: torch.Tensor) -> tuple[torch.Tensor, npt.NDArray[np.bool_]]:
    norms = torch.linalg.vector_norm(vectors, dim=1)
    finite = torch.isfinite(norms)
    if not bool(finite.all()):
        vectors[~finite] = 0
        norms = torch.where(finite, norms, torch.zeros_like(norms))
    return norms, finite.cpu().numpy()


def upper_norms(vectors: torch.Tensor) -> tuple[DoubleArray, npt.NDArray[np.bool_]]:
    """Return upper bounds of the norms of float64 rows, and which are finite; the others become zeros, in place."""
    norms, finite = _norms(vectors)
    return _upper(norms), finite


def _upper(norms: torch.Tensor) -> DoubleArray:
    upper: DoubleArray = norms.cpu().numpy() * (1 + 2.0**-40)
    return upper
