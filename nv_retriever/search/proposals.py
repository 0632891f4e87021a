"""Fast products that propose: which documents could reach a threshold, by a bound that is proven (docs/search.md).

Vectors q, d are scaled by powers of two and rounded to q', d' of a fast format. With the residuals' norms,

    q.d <= q'.d' + |q - q'| |d| + |q'| |d - d'| + (what accumulating in fp32 may lose)

The right side minus the query's threshold is itself one inner product of slightly longer vectors, so that a single
matrix product says by its signs alone which documents are below: no candidate is lost, whatever the format's precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from nv_retriever.hardware import fast_bf16
from nv_retriever.search.types import FloatArray

EXTRA = 4
"""Columns after a vector's own: norm, residual norm, threshold (two parts)."""
_TINY = 2.0**-100
"""More than underflow can lose in any product."""
_UNDERFLOW = 2.0**-50
"""More than underflow can take from an fp32 norm of a row of up to 2^24 numbers below 1."""
_REACH = 2.0
"""More than any scaled bound: thresholds beyond it keep nothing, or everything."""


@dataclass(frozen=True)
class Precision:
    """A number format in which this machine multiplies matrices fast."""

    name: str
    dtype: torch.dtype
    bits: torch.dtype
    """The integer type of the same size: a sign is read without looking at the value."""
    accumulation: float
    """Multiples of dim * 2^-24 * (sum of absolute products) that the product may be off."""
    rounding: float
    """Relative error of the product's own format."""


FP32 = Precision("fp32", torch.float32, torch.int32, accumulation=2.0, rounding=0.0)
BF16 = Precision("bf16", torch.bfloat16, torch.int16, accumulation=16.0, rounding=2.0**-7)


def fastest_precision(device: Literal["cpu", "cuda"]) -> Precision:
    """Return the format whose products are fastest on the device, by what its processor says; no result depends on it."""
    return BF16 if fast_bf16(device) else FP32


def round_up(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the values in another format, never smaller than they are."""
    rounded = values.to(dtype)
    low = rounded.double() < values
    return torch.where(low, torch.nextafter(rounded, torch.full_like(rounded, float("inf"))), rounded)


def cell_bits(values: FloatArray, precision: Precision) -> torch.Tensor:
    """Return the bits of the smallest cells that are neither below the values nor negative, (n,); infinite for NaN."""
    values = np.where(np.isnan(values), np.float32(np.inf), np.maximum(values, 0) + np.float32(0))
    return round_up(torch.from_numpy(values).double(), precision.dtype).view(precision.bits)


def multiply(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    """Set `out` (m, n) to left (m, k) times right (n, k) transposed.

    Not by numpy: OpenBLAS is as fast, but its threads spin on and take a third from the torch operations that follow.
    """
    if left.device.type == "cpu":
        torch.mm(left, right.T, out=out)
    else:
        with _fp32_accumulation():
            torch.mm(left, right.T, out=out)


@contextmanager
def _fp32_accumulation() -> Iterator[None]:
    """Keep a GPU from rounding inside a sum or its inputs, which the bound does not allow for."""
    settings = torch.backends.cuda.matmul
    before = settings.allow_bf16_reduced_precision_reduction, settings.allow_tf32
    settings.allow_bf16_reduced_precision_reduction = settings.allow_tf32 = False
    try:
        yield
    finally:
        settings.allow_bf16_reduced_precision_reduction, settings.allow_tf32 = before


def power_of_two_above(norms: torch.Tensor) -> torch.Tensor:
    """Return for each norm a power of two 2^e with norm / 2^e in [0.5, 1), 1 for zeros; float64."""
    return torch.ldexp(torch.ones_like(norms), torch.frexp(norms).exponent)


@dataclass
class Factor:
    """One side of the product: scaled, rounded rows with their extra columns."""

    precision: Precision
    rows: torch.Tensor
    """(n, dim + EXTRA) in the precision's format."""
    norms: torch.Tensor
    """(n,) float64, scaled, of the original rows."""
    residuals: torch.Tensor
    """(n,) float64, scaled: norms of what rounding took."""
    scales: torch.Tensor
    """(n,) float64: the power of two that a row was divided by."""

    @classmethod
    def empty(
        cls,
        precision: Precision,
        norms: torch.Tensor,
        scales: torch.Tensor,
        dim: int,
        memory: torch.Tensor | None = None,
    ) -> Factor:
        """Return a side whose rows are not filled yet; `norms` and `scales` (n,) float64.

        `memory` (at least n, dim + EXTRA) is taken for the rows where it is given.
        """
        n = len(norms)
        rows = norms.new_empty(n, dim + EXTRA, dtype=precision.dtype) if memory is None else memory[:n]
        rows[:, dim:] = 0
        return cls(precision, rows, norms / scales * (1 + 2.0**-40), torch.zeros_like(norms), scales)

    def fill(self, part: slice, vectors: torch.Tensor) -> None:
        """Scale and round some rows, (rows, dim) float64 that hold fp32 values.

        Powers of two scale fp32 exactly, and what rounding to fewer digits takes is an fp32 number: both but for underflow.
        """
        scaled = (vectors * (1 / self.scales[part, None])).float()
        rounded = self.rows[part, : vectors.shape[1]]
        rounded.copy_(scaled)
        if self.precision is not FP32:
            scaled -= rounded
            lost = torch.linalg.vector_norm(scaled, dim=1).double()
            self.residuals[part] = lost * (1 + (vectors.shape[1] + 8) * 2.0**-23) + _UNDERFLOW


def as_documents(side: Factor) -> None:
    """Fill the extra columns of the documents' side."""
    dim = side.rows.shape[1] - EXTRA
    side.rows[:, dim] = round_up(side.norms, side.precision.dtype)
    side.rows[:, dim + 1] = round_up(side.residuals, side.precision.dtype)
    side.rows[:, dim + 2 :] = 1


def as_queries(side: Factor) -> None:
    """Fill the extra columns of the queries' side that hold the error bound."""
    dim, precision = side.rows.shape[1] - EXTRA, side.precision
    unit = precision.accumulation * (dim + EXTRA) * 2.0**-24
    side.rows[:, dim] = round_up(side.residuals + unit * side.norms, precision.dtype)
    side.rows[:, dim + 1] = round_up(side.norms + side.residuals, precision.dtype)


def set_thresholds(side: Factor, thresholds: torch.Tensor, document_scale: float) -> torch.Tensor:
    """Put the thresholds into the queries' side; returns what was added to every score, (n,) float64, scaled.

    `thresholds` (n,) float64 in the scores' own unit, +-inf allowed. A document whose product is negative scores lower.
    """
    precision, dim = side.precision, side.rows.shape[1] - EXTRA
    unit = precision.accumulation * (dim + EXTRA) * 2.0**-24
    scaled = (thresholds / side.scales / document_scale).clamp(-_REACH, _REACH)
    added = -scaled + 2 * unit * scaled.abs() + _TINY
    high = added.to(precision.dtype)
    low = round_up(added - high.double(), precision.dtype)
    side.rows[:, dim + 2], side.rows[:, dim + 3] = high, low
    return high.double() + low.double()


def widths(queries: Factor, added: torch.Tensor, documents: Factor) -> torch.Tensor:
    """Return by how much a product may exceed the true value that it bounds, (n_queries,) float64, over all documents."""
    dim = queries.rows.shape[1] - EXTRA
    unit = queries.precision.accumulation * (dim + EXTRA) * 2.0**-24
    of_queries = queries.rows[:, dim : dim + 2].double()
    of_documents = documents.rows[:, dim : dim + 2].double().amax(dim=0)
    return 2 * (of_queries @ of_documents + 4 * unit * added.abs() + _TINY) * (1 + 2.0**-20)
