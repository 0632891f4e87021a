"""Fast products that propose: which documents could reach a threshold, by a bound that is proven (docs/search.md).

Vectors q, d are scaled by powers of two and rounded to q', d' of a fast format. With the residuals' norms,

    q.d <= q'.d' + |q - q'| |d| + |q'| |d - d'| + (what accumulating in fp32 may lose)

A cell of a product is the right side minus the query's threshold, so that its sign alone says which documents are below: no
candidate is lost, whatever the format's precision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from nv_retriever.search.precision import Precision
from nv_retriever.search.types import FloatArray

EXTRA = 4
"""Terms of a cell beside those of the vectors: two of the bound, two parts of the threshold."""
_UNDERFLOW = 2.0**-50
"""More than underflow can take from an fp32 norm of a row of up to 2^24 numbers below 1."""
_TINY = 2.0**-100
"""More than underflow can lose in any product."""
_REACH = 2.0
"""More than any scaled bound: thresholds beyond it keep nothing, or everything."""

RowsOf = Callable[[slice], torch.Tensor]
"""Gives some rows of the vectors, (rows, dim) float64 that hold fp32 values."""
Parts = Callable[[Callable[[slice], None], int], None]
"""Calls a function for slices that together cover a number of rows, maybe in several threads."""


class Product(Protocol):
    """All documents of a block times some queries."""

    def __call__(self, documents: slice, /, memory: torch.Tensor | None = None) -> torch.Tensor:
        """Return the cells of some documents, (documents, queries); in `memory`, where that is of use."""
        ...


class Side(ABC):
    """Vectors of one side of the product: scaled, rounded rows, and what is known of them."""

    def __init__(
        self,
        precision: Precision,
        norms: torch.Tensor,
        scales: torch.Tensor,
        dim: int,
        memory: torch.Tensor | None,
    ) -> None:
        """Take norms and the powers of two that rows are divided by, (n,) float64.

        `memory`, where it is given, has at least as many rows, which are overwritten.
        """
        self.precision, self.dim, self.scales = precision, dim, scales
        self.norms = norms / scales * (1 + 2.0**-40)
        self.residuals = torch.zeros_like(norms)
        """(n,) float64, scaled: norms of what rounding took."""
        self.gamma = precision.accumulation * (dim + EXTRA) * 2.0**-24
        """What accumulating a cell in fp32 may lose, as a multiple of the sum of its absolute terms."""
        self.rows = self.empty() if memory is None else memory[: len(norms)]
        """(n, columns) in the precision's format."""

    @abstractmethod
    def empty(self) -> torch.Tensor:
        """Return new memory for the rows."""

    @abstractmethod
    def fill(self, vectors: RowsOf, parts: Parts) -> None:
        """Scale and round all rows."""

    def scaled(self, part: slice, vectors: torch.Tensor) -> torch.Tensor:
        """Return rows (rows, dim) divided by their scales, as fp32.

        Powers of two scale fp32 exactly, and what rounding to fewer digits takes is an fp32 number: both but for underflow.
        """
        return (vectors * (1 / self.scales[part, None])).float()

    def lose(self, part: slice, lost: torch.Tensor) -> None:
        """Keep the norms of what rounding took from some rows, (rows, dim) fp32."""
        norms = torch.linalg.vector_norm(lost, dim=1).double()
        self.residuals[part] = norms * (1 + (self.dim + 8) * 2.0**-23) + _UNDERFLOW


class Documents(Side):
    """A block of documents, scaled together."""

    step = 1.0
    """What one unit of the rows stands for."""

    @property
    def scale(self) -> float:
        """What all rows are divided by."""
        return float(self.scales[0])

    def largest(self) -> torch.Tensor:
        """Return the largest norm and the largest residual norm, (2,) float64."""
        return torch.stack([self.norms, self.residuals], dim=1).amax(dim=0)


class Queries(Side):
    """Queries, each with its own scale."""

    def bounds(self) -> torch.Tensor:
        """Return what a document's norm and its residual's are multiplied with in the bound, (n, 2) float64."""
        return torch.stack([self.residuals + self.gamma * self.norms, self.norms + self.residuals], dim=1)

    def set_thresholds(self, thresholds: torch.Tensor, documents: Documents) -> torch.Tensor:
        """Take thresholds into the product; returns what was added to every score, (n,) float64, scaled.

        `thresholds` (n,) float64 in the scores' own unit, +-inf allowed. A document whose product is negative scores lower.
        """
        scaled = (thresholds / self.scales / documents.scale).clamp(-_REACH, _REACH)
        return self.add(-scaled + 2 * self.gamma * scaled.abs() + _TINY, documents)

    @abstractmethod
    def add(self, values: torch.Tensor, documents: Documents) -> torch.Tensor:
        """Let cells be larger by at least so much, (n,) float64; returns by how much they are."""

    @abstractmethod
    def against(self, documents: Documents, columns: slice) -> Product:
        """Return the product of some queries with documents, whose thresholds were set."""

    def widths(self, added: torch.Tensor, documents: Documents) -> torch.Tensor:
        """Return by how much a cell may exceed the true value that it bounds, (n_queries,) float64, over all documents."""
        bound = self.bounds() @ documents.largest()
        return 2 * (bound + 4 * self.gamma * added.abs() + _TINY) * (1 + 2.0**-20)


def round_up(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return float64 values in another format, never smaller than they are."""
    rounded = values.to(dtype)
    low = rounded.double() < values
    return torch.where(low, torch.nextafter(rounded, torch.full_like(rounded, float("inf"))), rounded)


def cell_bits(values: FloatArray, precision: Precision) -> torch.Tensor:
    """Return the bits of the smallest cells that are neither below the values nor negative, (n,); infinite for NaN."""
    values = np.where(np.isnan(values), np.float32(np.inf), np.maximum(values, 0) + np.float32(0))
    return round_up(torch.from_numpy(values).double(), precision.dtype).view(precision.bits)


def power_of_two_above(norms: torch.Tensor) -> torch.Tensor:
    """Return for each norm a power of two 2^e with norm / 2^e in [0.5, 1), 1 for zeros; float64."""
    return torch.ldexp(torch.ones_like(norms), torch.frexp(norms).exponent)
