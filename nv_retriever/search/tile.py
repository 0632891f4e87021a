"""Tiles of the matrix of proposals: multiplied, and read by the signs of their cells; one at a time in each thread."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from nv_retriever.ragged import Index
from nv_retriever.search.memory import BlockSizes
from nv_retriever.search.precision import Precision
from nv_retriever.search.prepared import slices
from nv_retriever.search.proposals import Product
from nv_retriever.search.types import FloatArray

T = TypeVar("T")
_FEW = 64
"""Where at most one cell in so many reaches the lower end, looking at these alone is cheaper than two more passes."""


class Tile:
    """The memory of one tile: fresh pages would cost as much as the product."""

    def __init__(self, cells: int, precision: Precision, device: str) -> None:
        self.memory = self.scores = torch.empty(cells, dtype=precision.dtype, device=device)
        self.bits = self.scores.view(precision.bits)
        self.mask, self.reached = np.empty(cells, bool), np.empty(cells, bool)

    def multiply(self, product: Product, documents: slice) -> torch.Tensor:
        """Return the cells of some documents, (documents, queries), valid until the next call."""
        scores = product(documents, self.memory)
        self.scores = scores.view(-1)
        self.bits = self.scores.view(self.bits.dtype)
        return scores

    def not_negative(self, cells: int) -> Index:
        """Return the positions, among the first cells, of those that have no sign, ascending."""
        if self.bits.device.type != "cpu":
            positions: Index = torch.nonzero(self.bits[:cells] >= 0).view(-1).cpu().numpy()
            return positions
        mask = self.mask[:cells]
        np.greater_equal(self.bits.numpy()[:cells], 0, out=mask)
        return np.flatnonzero(mask)

    def between(self, shape: tuple[int, ...], low: torch.Tensor, high: torch.Tensor) -> tuple[Index, Index]:
        """Return, of the first columns, the cells from `low` to below `high`, and how many of each column reach `high`.

        Cells are counted row by row over these columns, ascending. `low`, `high` (n_columns,) are the bits of cells that are
        not negative: such bits are in the order of the numbers. The tile's `shape` is (documents, queries).
        """
        bits = self.bits[: shape[0] * shape[1]].view(shape)[:, : len(low)]
        if bits.device.type != "cpu":
            over = bits >= high
            positions: Index = torch.nonzero(((bits >= low) & ~over).view(-1)).view(-1).cpu().numpy()
            counted: Index = over.sum(dim=0).cpu().numpy()
            return positions, counted
        mask, reached = (memory[: bits.numel()].reshape(bits.shape) for memory in (self.mask, self.reached))
        np.greater_equal(bits.numpy(), low.numpy(), out=mask)
        if np.count_nonzero(mask) * _FEW <= mask.size:
            cells = np.flatnonzero(mask)
            rows = cells // len(low)
            columns = cells - rows * len(low)
            at = bits.numpy()[rows, columns] >= high.numpy()[columns]
            return cells[~at], np.bincount(columns[at], minlength=len(low))
        np.greater_equal(bits.numpy(), high.numpy(), out=reached)
        np.greater(mask, reached, out=mask)
        return np.flatnonzero(mask), count_columns(reached)

    def values(self, cells: Index) -> FloatArray:
        """Return some cells."""
        places = torch.from_numpy(cells).to(self.scores.device)
        values: FloatArray = self.scores.index_select(0, places).float().cpu().numpy()
        return values


def count_columns(mask: npt.NDArray[np.bool_]) -> Index:
    """Return how many of each column are True, (m, n) -> (n,); sums of bytes are fast while they fit a byte."""
    counts = np.zeros(mask.shape[1], np.int64)
    for start in range(0, len(mask), 255):
        counts += np.add.reduce(mask[start : start + 255].view(np.uint8), axis=0, dtype=np.uint8)
    return counts


class Workers:
    """Threads that work at tiles of their own, each from the product to the top-k.

    Products of one thread each, rather than one product by all threads after the other: nothing waits for the slowest,
    cells are read by the core that wrote them, and no idle OpenMP thread spins beside what is not a product.
    """

    def __init__(self, sizes: BlockSizes, precision: Precision, device: str) -> None:
        self.precision, self.device = precision, device
        self.threads = torch.get_num_threads() if device == "cpu" else 1
        self.cells = sizes.tile_documents * sizes.tile_queries
        """Of one tile."""
        self._tiles: queue.SimpleQueue[Tile] = queue.SimpleQueue()
        for _ in range(self.threads):
            self._tiles.put(Tile(self.cells, precision, device))
        self._pool = ThreadPoolExecutor(self.threads, "search", torch.set_num_threads, (1,)) if self.threads > 1 else None

    def map(self, work: Callable[[Tile, T], None], items: Sequence[T]) -> None:
        """Call `work` for every item, with a tile that nobody else uses; a single item may use all threads."""
        if self._pool is None or len(items) == 1:
            for item in items:
                self._call(work, item)
        else:
            list(self._pool.map(lambda item: self._call(work, item), items))

    def parts(self, work: Callable[[slice], None], rows: int) -> None:
        """Call `work` for slices that cover the rows; a GPU takes all at once."""
        self.map(lambda _, part: work(part), slices(rows) if self.device == "cpu" else [slice(0, rows)])

    def _call(self, work: Callable[[Tile, T], None], item: T) -> None:
        tile = self._tiles.get()
        try:
            work(tile, item)
        finally:
            self._tiles.put(tile)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            torch.set_num_threads(self.threads)
