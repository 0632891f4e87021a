"""Proposals in int8: a cell is an exact sum of integers, scaled, plus the query's bound over the block and its threshold.

The bound holds for the block's longest document and its largest residual, where fp32 and bf16 take each document's own.
"""

from __future__ import annotations

import torch

from nv_retriever.search import int8_products
from nv_retriever.search.int8_products import SIGNED, UNSIGNED, ZERO
from nv_retriever.search.proposals import Documents, Parts, Product, Queries, RowsOf, round_up


class Int8Documents(Documents):
    """The left side: levels of one step for the whole block."""

    def empty(self) -> torch.Tensor:
        """Return new memory for the rows."""
        return torch.empty(len(self.norms), self.dim, dtype=torch.uint8)

    def fill(self, vectors: RowsOf, parts: Parts) -> None:
        """Find the block's step and round all rows."""
        largest = torch.zeros(len(self.norms))

        def measure(part: slice) -> None:
            """Find the largest number of some rows."""
            largest[part] = torch.linalg.vector_norm(self.scaled(part, vectors(part)), ord=float("inf"), dim=1)

        def fill(part: slice) -> None:
            """Fill some rows."""
            levels, lost = _round(self.scaled(part, vectors(part)), step, UNSIGNED)
            self.rows[part] = levels.add_(ZERO).to(torch.uint8)
            self.lose(part, lost)

        parts(measure, len(largest))
        step = _steps(largest.amax().reshape(1), UNSIGNED)
        self.step = float(step)
        parts(fill, len(largest))


class Int8Queries(Queries):
    """The right side: levels of a step for each row."""

    steps: torch.Tensor
    """(n,) fp32, what a level of each row stands for."""
    bias: torch.Tensor
    """(n,) fp32, what is added to each row's cells: bound and threshold."""

    def empty(self) -> torch.Tensor:
        """Return new memory for the rows."""
        return torch.empty(len(self.norms), self.dim, dtype=torch.int8)

    def fill(self, vectors: RowsOf, parts: Parts) -> None:
        """Find each row's step and round all rows."""
        self.steps = torch.empty(len(self.norms))

        def fill(part: slice) -> None:
            """Fill some rows."""
            scaled = self.scaled(part, vectors(part))
            self.steps[part] = _steps(torch.linalg.vector_norm(scaled, ord=float("inf"), dim=1), SIGNED)
            levels, lost = _round(scaled, self.steps[part, None], SIGNED)
            self.rows[part] = levels.to(torch.int8)
            self.lose(part, lost)

        parts(fill, len(self.norms))

    def add(self, values: torch.Tensor, documents: Documents) -> torch.Tensor:
        """Add the values, and the bound, to the cells of each query."""
        self.bias = round_up(values + self.bounds() @ documents.largest(), torch.float32)
        return values

    def against(self, documents: Documents, columns: slice) -> Product:
        """Return the product of some queries with documents."""
        packed, bias = int8_products.pack(self.rows[columns], self.steps[columns]), self.bias[columns]

        def product(rows: slice, memory: torch.Tensor | None = None) -> torch.Tensor:
            """Multiply some documents; oneDNN takes no memory for what it returns."""
            return int8_products.multiply(documents.rows[rows], documents.step, packed, bias)

        return product


def _steps(largest: torch.Tensor, levels: int) -> torch.Tensor:
    """Return what a level stands for where numbers reach `largest` (n,) fp32; of few digits, so that multiples are exact."""
    steps = round_up((largest / levels).double(), torch.bfloat16).float()
    return torch.where(steps > 2.0**-100, steps, torch.ones_like(steps))


def _round(scaled: torch.Tensor, steps: torch.Tensor, levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the nearest levels of numbers (rows, dim) fp32, and what that takes from them."""
    nearest = torch.round(scaled / steps).clamp_(-levels, levels)
    return nearest, scaled.sub_(nearest * steps)
