"""How many rows are in memory at a time: block sizes from one memory budget."""

from __future__ import annotations

from dataclasses import dataclass

from nv_retriever.hardware import Device

PAIR_BYTES = 96
"""Of one pair on its way from the product to the top-k."""
_TILES = {"cpu": (1 << 22, 1024), "cuda": (1 << 26, 4096)}
"""Bytes and queries of one tile at most: on a CPU its cells are read several times while they are in the cache, on a GPU a
product should take longer than its launch."""


@dataclass(frozen=True)
class BlockSizes:
    """Rows per block; none of them changes a result."""

    queries: int
    """Queries that one pass over the corpus serves."""
    documents: int
    """Documents prepared at once."""
    tile_queries: int
    """A multiple of 8."""
    tile_documents: int
    pairs: int
    """Pairs above the threshold that a thread collects before they are scored."""


def block_sizes(budget: int, dim: int, k: int, cell: int = 4, threads: int = 1, device: Device = "cpu") -> BlockSizes:
    """Return block sizes that keep a search for k documents of `dim` numbers by so many threads within `budget` bytes.

    `cell` is the number of bytes of one product.
    """
    # More than is held: of a vector fp32 or fp64 rows, rounded ones, temporaries; of a place in the top-k its key, twice.
    tile_bytes, most_queries = _TILES[device]
    query_bytes, document_bytes = 32 * dim + 32 * k + 64, 24 * dim + 128
    queries = _between(budget // 4 // query_bytes, 8, 1 << 17)
    documents = _between(budget // 4 // document_bytes, 64, 1 << 15)
    tile_queries = _between(budget // 8 // (48 * max(k, 1)), 8, most_queries) // 8 * 8
    most = tile_bytes // (most_queries * cell)
    tile_documents = _between(budget // 8 // ((cell + 4) * tile_queries * threads), 64, most)
    return BlockSizes(
        queries=queries,
        documents=documents,
        tile_queries=tile_queries,
        tile_documents=min(tile_documents, documents),
        pairs=_between(budget // 8 // PAIR_BYTES // threads, 1024, 1 << 22),
    )


def _between(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
