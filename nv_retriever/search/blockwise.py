"""Exact top-k of a set of queries in one pass over the documents, block by block.

Each tile of the product is an upper bound of the scores minus the query's threshold (search/proposals.py): what is
negative is out, the rest is ranked by its bounds, and what may still be among the k best is scored exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from nv_retriever.search.exact import pair_scores
from nv_retriever.search.memory import BlockSizes
from nv_retriever.search.proposals import cell_bits, set_thresholds, widths
from nv_retriever.search.pruning import Pruning
from nv_retriever.search.ranking import EMPTY, Keys, merge, pack, unpack
from nv_retriever.search.rows import Rows, prepare_documents
from nv_retriever.search.tile import Tile, Workers
from nv_retriever.search.types import Exclusions, FloatArray, OffsetArray

DoubleArray = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Found = tuple[Index, Index, FloatArray]
"""(document of the block, query of the tile, bound minus threshold) of pairs, by document."""


@dataclass
class Search:
    """What a pass knows about its queries (n, a multiple of 8)."""

    queries: Rows
    k: int
    excluded: Exclusions
    guesses: FloatArray
    """(n,) every allowed document that scores at least this is found; +inf: nothing is wanted."""
    limits: FloatArray | None
    """(n,) only documents strictly below are wanted."""
    best: Keys = field(init=False)
    above: OffsetArray = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.guesses)
        self.best = np.full((n, self.k), EMPTY)
        self.above = np.zeros(n, np.int64)

    def last_scores(self) -> FloatArray:
        """Return the k-th best scores so far, NaN where fewer were found."""
        return unpack(self.best[:, -1])[1]

    def complete(self) -> npt.NDArray[np.bool_]:
        """Return where the guess was not too high: the k best are proven."""
        done: npt.NDArray[np.bool_] = np.isinf(self.guesses) | (self.last_scores() >= self.guesses)
        return done


def scan(search: Search, blocks: Iterable[tuple[int, FloatArray]], sizes: BlockSizes, workers: Workers) -> None:
    """Pass over the documents once and leave the best keys and the counts above the limits in `search`."""
    memory = None
    for start, block in blocks:
        if memory is None or len(memory) < len(block):
            memory = torch.empty(block.shape, dtype=torch.float64, device=workers.device)
        documents = prepare_documents(block, workers.precision, workers.device, workers.parts, memory)
        _Block(search, start, documents, sizes).run(workers)


class _Block:
    """One block of documents against all queries of a search."""

    def __init__(self, search: Search, start: int, documents: Rows, sizes: BlockSizes) -> None:
        self.search, self.start, self.documents, self.sizes = search, start, documents, sizes
        self.scale = float(documents.factor.scales[0]) if len(documents.vectors) else 1.0
        queries = search.queries.factor
        with np.errstate(invalid="ignore", over="ignore"):
            known = np.fmax(search.guesses, search.last_scores())
            below = np.nextafter(known, np.float32(-np.inf), dtype=np.float32)
        thresholds = torch.from_numpy(np.where(np.isinf(known), known, below).astype(np.float64))
        added = set_thresholds(queries, thresholds.to(queries.scales.device), self.scale)
        width: DoubleArray = widths(queries, added, documents.factor).cpu().numpy()
        units: DoubleArray = queries.scales.cpu().numpy() * self.scale
        self.pruning = Pruning(width, added.cpu().numpy(), units, queries.precision.rounding, search.limits)
        above = self.pruning.above
        self.above = None if above is None else cell_bits(above, queries.precision).to(added.device)
        self.quarantined = np.flatnonzero(~documents.finite)
        self.step = sizes.tile_queries

    def run(self, workers: Workers) -> None:
        """Multiply all tiles and merge what they propose; each thread takes tiles of some queries from start to end."""
        n, most = len(self.search.guesses), self.sizes.tile_queries
        rounds = -(-n // (most * workers.threads))
        self.step = min(most, -(-n // (rounds * workers.threads * 8)) * 8)
        workers.map(self._tiles, range(0, n, self.step))

    def _tiles(self, tile: Tile, low: int) -> None:
        """Multiply all documents with the queries from `low` on, and absorb what they propose."""
        high = min(low + self.step, len(self.search.guesses))
        right = self.search.queries.factor.rows[low:high]
        excluded_documents, excluded_queries = self._excluded(low, high)
        found: list[Found] = []
        pending = 0
        for first in range(0, len(self.documents.vectors), self.sizes.tile_documents):
            left = self.documents.factor.rows[first : first + self.sizes.tile_documents]
            last = first + len(left)
            scores = tile.multiply(left, right)
            part = slice(*np.searchsorted(excluded_documents, [first, last]))
            _strike(scores, excluded_documents[part] - first, excluded_queries[part])
            for row in self.quarantined[(self.quarantined >= first) & (self.quarantined < last)]:
                scores[row - first] = -1
            if self.above is None:
                cells = tile.not_negative(scores.numel())
            else:
                cells, over = tile.below(len(scores), self.above[low:high])
                self.search.above[low:high] += over
            if len(cells):
                documents = cells // (high - low)
                queries = cells - documents * (high - low)
                found.append((documents + first, queries, tile.values(cells)))
                pending += len(cells)
            if pending > self.sizes.pairs:
                self._absorb(low, high, found)
                found, pending = [], 0
        if found:
            self._absorb(low, high, found)

    def _excluded(self, low: int, high: int) -> tuple[Index, Index]:
        """Return the excluded pairs of some queries in this block, by document, as rows of the block and of the tile."""
        excluded = self.search.excluded
        part = slice(int(excluded.offsets[low]), int(excluded.offsets[high]))
        documents = excluded.documents[part].astype(np.int64) - self.start
        queries = np.repeat(np.arange(high - low), np.diff(excluded.offsets[low : high + 1]))
        inside = np.flatnonzero((documents >= 0) & (documents < len(self.documents.vectors)))
        order = inside[np.argsort(documents[inside], kind="stable")]
        return documents[order], queries[order]

    def _absorb(self, low: int, high: int, found: list[Found]) -> None:
        """Score exactly what may be among the k best (or at its limit), and merge it; pairs come by document."""
        documents, queries, cells = (np.concatenate(column) for column in zip(*found, strict=True))
        search = self.search
        keep = np.flatnonzero(self.pruning.undecided(slice(low, high), queries, cells, search.k))
        documents, queries = documents.take(keep), queries.take(keep)
        scores = pair_scores(
            search.queries.vectors[low:high].double(),
            self.documents.vectors,
            search.queries.norms[low:high],
            self.documents.norms,
            queries,
            documents,
        )
        if search.limits is not None:
            at = scores >= search.limits[low:high][queries]
            search.above[low:high] += np.bincount(queries[at], minlength=high - low)
            keep = np.flatnonzero(~at)
            documents, queries, scores = documents.take(keep), queries.take(keep), scores.take(keep)
        order = np.argsort(queries.astype(np.uint16), kind="stable")
        keys = pack(scores, documents + self.start)[order]
        merge(search.best[low:high], keys, np.bincount(queries, minlength=high - low))


def _strike(scores: torch.Tensor, rows: Index, columns: Index) -> None:
    if len(rows):
        cells = torch.from_numpy(rows * scores.shape[1] + columns).to(scores.device)
        scores.view(-1).index_fill_(0, cells, -1)
