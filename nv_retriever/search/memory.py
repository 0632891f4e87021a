"""How many rows are in memory at a time: block sizes from one memory budget."""

from __future__ import annotations

from dataclasses import dataclass

PAIR_BYTES = 96
"""Of one pair on its way from the product to the top-k."""
_TILE_BYTES, _TILE_QUERIES = 1 << 22, 1024
"""Of one tile's products at most: they are read several times while they are in the cache."""


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


def block_sizes(budget: int, dim: int, k: int, cell: int = 4, threads: int = 1) -> BlockSizes:
    """Return block sizes that keep a search for k documents of `dim` numbers by so many threads within `budget` bytes.

    `cell` is the number of bytes of one product.
    """
    # More than is held: of a vector fp32 or fp64 rows, rounded ones, temporaries; of a place in the top-k its key, twice.
    query_bytes, document_bytes = 32 * dim + 32 * k + 64, 24 * dim + 128
    queries = _between(budget // 4 // query_bytes, 8, 1 << 17)
    documents = _between(budget // 4 // document_bytes, 64, 1 << 15)
    tile_queries = _between(budget // 8 // (48 * max(k, 1)), 8, _TILE_QUERIES) // 8 * 8
    most = _TILE_BYTES // (_TILE_QUERIES * cell)
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
