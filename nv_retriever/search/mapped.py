"""Memory-mapped vectors without their weight: pages that were read leave the process (not the system's cache) at once."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nv_retriever.search.types import FloatArray

_ROWS = 128
"""Rows gathered between releases: a page that is touched brings its neighbours with it, 400 KB on some kernels."""
_TOGETHER = 1024
"""The same for rows that are neighbours themselves."""


class VectorSource(Protocol):
    """Vectors by row, in memory or memory-mapped: `nv_retriever.embedding.shards.Vectors`."""

    @property
    def n(self) -> int:
        """Rows."""
        ...

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        ...

    def blocks(self, max_rows: int) -> Iterator[tuple[int, FloatArray]]:
        """Yield (first row, float32 (rows, dim)) in order."""
        ...

    def take(self, rows: npt.NDArray[np.integer]) -> FloatArray:
        """Return some rows, float32 (n, dim)."""
        ...


def release(array: Any) -> None:
    """Give the pages of a memory-mapped array back; arrays in memory are left alone."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED") and getattr(array, "mode", "") == "r":
        mapped.madvise(mmap.MADV_DONTNEED)


def stream(vectors: VectorSource, max_rows: int) -> Iterator[tuple[int, FloatArray]]:
    """Yield the blocks of vectors; a block's pages are released when the next one is asked for."""
    for start, block in vectors.blocks(max_rows):
        yield start, block
        release(block)


def gather(vectors: VectorSource, rows: npt.NDArray[np.integer], padding: int = 0) -> FloatArray:
    """Return some rows and then `padding` rows of zeros, float32 (n, dim), in flat memory however far apart they lie."""
    parts = getattr(vectors, "parts", ())
    found = np.empty((len(rows) + padding, vectors.dim), np.float32)
    found[len(rows) :] = 0
    step = _TOGETHER if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))) else _ROWS
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        found[start : start + len(some)] = vectors.take(some)
        for part in parts:
            release(part)
    return found
