"""Proposals in fp32 or bf16: a cell is one inner product of vectors that are four numbers longer.

documents  [ d'   |d|                 |d - d'|        1      1    ]
queries    [ q'   |q - q'| + c|q|     |q'|            high   low  ]      high + low = -threshold + slack, rounded up
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch

from nv_retriever.search.precision import FP32
from nv_retriever.search.proposals import EXTRA, Documents, Parts, Product, Queries, RowsOf, Side, round_up


class FloatDocuments(Documents):
    """The left side."""

    def empty(self) -> torch.Tensor:
        """Return new memory for the rows."""
        return _empty(self)

    def fill(self, vectors: RowsOf, parts: Parts) -> None:
        """Round all rows and fill the extra columns."""
        _fill(self, vectors, parts)
        self.rows[:, self.dim] = round_up(self.norms, self.precision.dtype)
        self.rows[:, self.dim + 1] = round_up(self.residuals, self.precision.dtype)
        self.rows[:, self.dim + 2 :] = 1

    def largest(self) -> torch.Tensor:
        """Return the largest norm and the largest residual norm, as they are in the rows, (2,) float64."""
        return self.rows[:, self.dim : self.dim + 2].double().amax(dim=0)


class FloatQueries(Queries):
    """The right side."""

    def empty(self) -> torch.Tensor:
        """Return new memory for the rows."""
        return _empty(self)

    def fill(self, vectors: RowsOf, parts: Parts) -> None:
        """Round all rows and fill the columns of the bound."""
        _fill(self, vectors, parts)
        self.rows[:, self.dim : self.dim + 2] = round_up(super().bounds(), self.precision.dtype)

    def bounds(self) -> torch.Tensor:
        """Return the columns of the bound, (n, 2) float64."""
        return self.rows[:, self.dim : self.dim + 2].double()

    def add(self, values: torch.Tensor, documents: Documents) -> torch.Tensor:
        """Put the values into two columns, the second what the first is too small."""
        high = values.to(self.precision.dtype)
        low = round_up(values - high.double(), self.precision.dtype)
        self.rows[:, self.dim + 2], self.rows[:, self.dim + 3] = high, low
        return high.double() + low.double()

    def against(self, documents: Documents, columns: slice) -> Product:
        """Return the product of some queries with documents."""
        return partial(_multiply, documents.rows, self.rows[columns])


def _empty(side: Side) -> torch.Tensor:
    return side.norms.new_empty(len(side.norms), side.dim + EXTRA, dtype=side.precision.dtype)


def _fill(side: Side, vectors: RowsOf, parts: Parts) -> None:
    """Scale and round all rows, and keep what that took."""

    def fill(part: slice) -> None:
        """Fill some rows."""
        scaled = side.scaled(part, vectors(part))
        rounded = side.rows[part, : side.dim]
        rounded.copy_(scaled)
        if side.precision is not FP32:
            scaled -= rounded
            side.lose(part, scaled)

    parts(fill, len(side.norms))


def _multiply(left: torch.Tensor, right: torch.Tensor, documents: slice, memory: torch.Tensor | None = None) -> torch.Tensor:
    """Return some rows of left (m, k) times right (n, k) transposed.

    Not by numpy: OpenBLAS is as fast, but its threads spin on and take a third from the torch operations that follow.
    """
    rows = left[documents]
    if memory is None:
        memory = rows.new_empty(len(rows) * len(right))
    cells = memory[: len(rows) * len(right)].view(len(rows), len(right))
    with _fp32_accumulation() if left.device.type != "cpu" else nullcontext():
        return torch.mm(rows, right.T, out=cells)


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
