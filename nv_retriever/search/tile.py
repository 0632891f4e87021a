"""One tile of the matrix of proposals: multiplied, and read by the signs of its cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from nv_retriever.search.memory import BlockSizes
from nv_retriever.search.proposals import Precision, multiply
from nv_retriever.search.types import FloatArray

Index = npt.NDArray[np.int64]
T = TypeVar("T")
R = TypeVar("R")
_FEWEST = 1 << 18
"""Cells that are worth a thread."""


class Buffer:
    """The memory of one tile: fresh pages would cost as much as the product."""

    def __init__(self, sizes: BlockSizes, precision: Precision, device: str) -> None:
        cells = sizes.tile_documents * sizes.tile_queries
        self.scores = torch.empty(cells, dtype=precision.dtype, device=device)
        self.bits = self.scores.view(precision.bits)
        self.mask = np.empty(cells, bool)
        self.threads = torch.get_num_threads() if device == "cpu" else 1
        self._pool = ThreadPoolExecutor(self.threads, "search") if self.threads > 1 else None

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Apply a function to items, as many at a time as products have threads."""
        return list(map(function, items) if self._pool is None else self._pool.map(function, items))

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def multiply(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Return left (m, k) times right (n, k) transposed, (m, n), valid until the next call."""
        scores = self.scores[: len(left) * len(right)].view(len(left), len(right))
        multiply(left, right, scores)
        return scores

    def not_negative(self, cells: int) -> Index:
        """Return the positions, among the first cells, of those that have no sign, ascending."""
        if self.bits.device.type != "cpu":
            positions: Index = torch.nonzero(self.bits[:cells] >= 0).view(-1).cpu().numpy()
            return positions
        step = max(-(-cells // self.threads), _FEWEST)
        if step >= cells:
            return self._not_negative(0, cells)
        parts = [(start, min(start + step, cells)) for start in range(0, cells, step)]
        return np.concatenate(self.map(lambda part: self._not_negative(*part), parts))

    def _not_negative(self, start: int, stop: int) -> Index:
        mask = self.mask[start:stop]
        np.greater_equal(self.bits.numpy()[start:stop], 0, out=mask)
        return np.flatnonzero(mask) + start

    def values(self, cells: Index) -> FloatArray:
        """Return some cells."""
        values: FloatArray = self.scores[torch.from_numpy(cells).to(self.scores.device)].float().cpu().numpy()
        return values
