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

from nv_retriever.ragged import Index
from nv_retriever.search.exact import pair_scores
from nv_retriever.search.memory import BlockSizes
from nv_retriever.search.prepared import Prepared, prepare_documents
from nv_retriever.search.proposals import Documents, Queries, cell_bits
from nv_retriever.search.pruning import Pruning
from nv_retriever.search.ranking import EMPTY, Keys, merge, pack, unpack
from nv_retriever.search.rounds import Rounds
from nv_retriever.search.tile import Tile, Workers
from nv_retriever.search.types import Exclusions, FloatArray, OffsetArray

Found = tuple[Index, Index, FloatArray]
"""(document of the block, query of the tile, bound minus threshold) of pairs, by document."""


@dataclass
class Search:
    """What a pass knows about its rows (n, in the order of the rounds) and their queries (a multiple of 8)."""

    queries: Prepared[Queries]
    rounds: Rounds
    k: int
    excluded: Exclusions
    """Of the queries."""
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

    def last_scores(self, rows: slice = slice(None)) -> FloatArray:
        """Return the k-th best scores of some rows so far, NaN where fewer were found."""
        return unpack(self.best[rows, -1])[1]

    def complete(self) -> npt.NDArray[np.bool_]:
        """Return where the guess was not too high: the k best are proven."""
        done: npt.NDArray[np.bool_] = np.isinf(self.guesses) | (self.last_scores() >= self.guesses)
        return done


def scan(search: Search, blocks: Iterable[tuple[int, FloatArray]], sizes: BlockSizes, workers: Workers) -> None:
    """Pass over the documents once and leave the best keys and the counts above the limits in `search`."""
    memory: Prepared[Documents] | None = None
    for start, block in blocks:
        if memory is not None and len(memory.vectors) < len(block):
            memory = None
        documents = prepare_documents(block, workers.precision, workers.device, workers.parts, memory)
        memory = memory or documents
        _Block(search, start, documents, sizes).run(workers)


class _Block:
    """One block of documents against all queries of a search."""

    def __init__(self, search: Search, start: int, documents: Prepared[Documents], sizes: BlockSizes) -> None:
        self.search, self.start, self.documents, self.sizes = search, start, documents, sizes
        queries = search.queries.side
        thresholds = _reaching(np.fmax(search.guesses, search.last_scores()))
        least = torch.from_numpy(search.rounds.least(thresholds).astype(np.float64)).to(queries.scales.device)
        added = queries.set_thresholds(least, documents.side)
        of_columns = (queries.widths(added, documents.side), added, queries.scales * documents.side.scale)
        widths, shifts, scales = (values.cpu().numpy()[search.rounds.columns] for values in of_columns)
        self.pruning = Pruning(widths, shifts, scales, queries.precision.rounding, search.limits)
        self.bits: tuple[torch.Tensor, torch.Tensor] | None = None
        """Bits of the cells between which each row's documents lie, (n,) each; None where a sign says it."""
        if search.limits is not None or len(search.rounds.spans) > 1:
            ends = (self.pruning.reach(thresholds), self.pruning.above)
            low, high = (cell_bits(values, queries.precision).to(added.device) for values in ends)
            self.bits = low, high
        self.quarantined = np.flatnonzero(~documents.finite)

    def run(self, workers: Workers) -> None:
        """Multiply all tiles and merge what they propose; each thread takes tiles of some queries from start to end."""
        n, most = len(self.search.queries.vectors), self.sizes.tile_queries
        turns = -(-n // (most * workers.threads))
        step = min(most, -(-n // (turns * workers.threads * 8)) * 8)
        workers.map(self._tiles, [slice(low, min(low + step, n)) for low in range(0, n, step)])

    def _tiles(self, tile: Tile, columns: slice) -> None:
        """Multiply all documents with some queries, and absorb what they propose."""
        low, high = columns.start, columns.stop
        product = self.search.queries.side.against(self.documents.side, columns)
        excluded_documents, excluded_queries = self._excluded(low, high)
        rounds = self.search.rounds.within(low, high)
        found: list[list[Found]] = [[] for _ in rounds]
        pending = 0
        for first in range(0, len(self.documents.vectors), self.sizes.tile_documents):
            last = min(first + self.sizes.tile_documents, len(self.documents.vectors))
            scores = tile.multiply(product, slice(first, last))
            part = slice(*np.searchsorted(excluded_documents, [first, last]))
            _strike(scores, excluded_documents[part] - first, excluded_queries[part])
            for row in self.quarantined[(self.quarantined >= first) & (self.quarantined < last)]:
                scores[row - first] = -1
            for rows, pairs in zip(rounds, found, strict=True):
                cells, width = self._read(tile, scores, rows)
                if len(cells):
                    documents = cells // width
                    queries = cells - documents * width
                    pairs.append((documents + first, queries, tile.values(documents * (high - low) + queries)))
                    pending += len(cells)
            if pending > self.sizes.pairs:
                self._absorb(low, high, rounds, found)
                found, pending = [[] for _ in rounds], 0
        self._absorb(low, high, rounds, found)

    def _read(self, tile: Tile, scores: torch.Tensor, rows: slice) -> tuple[Index, int]:
        """Return the cells that a round proposes, counted over its columns, the first of the tile, and how many it has."""
        if self.bits is None:
            return tile.not_negative(scores.numel()), scores.shape[1]
        low, high = (bits[rows] for bits in self.bits)
        cells, over = tile.between(scores.shape, low, high)
        self.search.above[rows] += over
        return cells, len(low)

    def _excluded(self, low: int, high: int) -> tuple[Index, Index]:
        """Return the excluded pairs of some queries in this block, by document, as rows of the block and of the tile."""
        excluded = self.search.excluded
        part = slice(int(excluded.offsets[low]), int(excluded.offsets[high]))
        documents = excluded.documents[part].astype(np.int64) - self.start
        queries = np.repeat(np.arange(high - low), np.diff(excluded.offsets[low : high + 1]))
        inside = np.flatnonzero((documents >= 0) & (documents < len(self.documents.vectors)))
        order = inside[np.argsort(documents[inside], kind="stable")]
        return documents[order], queries[order]

    def _absorb(self, low: int, high: int, rounds: list[slice], found: list[list[Found]]) -> None:
        """Score exactly what may be among the k best (or at its limit), and merge it; pairs come by document."""
        search, vectors = self.search, None
        for rows, some in zip(rounds, found, strict=True):
            if not some:
                continue
            if vectors is None:
                vectors = search.queries.vectors[low:high].double()
            documents, queries, cells = (np.concatenate(column) for column in zip(*some, strict=True))
            undecided, leading = self.pruning.undecided(rows, queries, cells, search.k)
            first = np.flatnonzero(leading)
            self._merge(rows, low, vectors, documents.take(first), queries.take(first))
            rest = np.flatnonzero(undecided & ~leading)
            if len(rest):
                # The k best by their bounds are scored: only what may reach the k-th of these scores is left.
                least = self.pruning.reach(_reaching(search.last_scores(rows)), rows)
                rest = rest[cells.take(rest) >= least[queries.take(rest)]]
                self._merge(rows, low, vectors, documents.take(rest), queries.take(rest))

    def _merge(self, rows: slice, low: int, vectors: torch.Tensor, documents: Index, queries: Index) -> None:
        """Score some pairs exactly, and merge those below the limits into the best of a round's rows."""
        search = self.search
        norms = search.queries.norms[low : low + len(vectors)]
        scores = pair_scores(vectors, self.documents.vectors, norms, self.documents.norms, queries, documents)
        if search.limits is not None:
            at = scores >= search.limits[rows][queries]
            search.above[rows] += np.bincount(queries[at], minlength=rows.stop - rows.start)
            keep = np.flatnonzero(~at)
            documents, queries, scores = documents.take(keep), queries.take(keep), scores.take(keep)
        order = np.argsort(queries.astype(np.uint16), kind="stable")
        keys = pack(scores, documents + self.start)[order]
        merge(search.best[rows], keys, np.bincount(queries, minlength=rows.stop - rows.start))


def _reaching(scores: FloatArray) -> FloatArray:
    """Return thresholds that products reach whose scores, rounded to fp32, are at least so much."""
    with np.errstate(invalid="ignore", over="ignore"):
        below = np.nextafter(scores, np.float32(-np.inf), dtype=np.float32)
    thresholds: FloatArray = np.where(np.isinf(scores), scores, below)
    return thresholds


def _strike(scores: torch.Tensor, rows: Index, columns: Index) -> None:
    if len(rows):
        cells = torch.from_numpy(rows * scores.shape[1] + columns).to(scores.device)
        scores.view(-1).index_fill_(0, cells, -1)
