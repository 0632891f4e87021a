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
from nv_retriever.search.proposals import (
    Precision,
    set_thresholds,
    widths,
)
from nv_retriever.search.ranking import EMPTY, Keys, kth_largest, merge, pack, unpack
from nv_retriever.search.rows import Rows, prepare_documents
from nv_retriever.search.tile import Buffer
from nv_retriever.search.types import Exclusions, FloatArray, OffsetArray

DoubleArray = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Found = tuple[Index, Index, FloatArray]
"""(document of the block, query of the tile, bound minus threshold) of pairs, by document."""
_LARGEST = float(np.finfo(np.float32).max)


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


def scan(
    search: Search, blocks: Iterable[tuple[int, FloatArray]], precision: Precision, sizes: BlockSizes, device: str
) -> None:
    """Pass over the documents once and leave the best keys and the counts above the limits in `search`."""
    with Buffer(sizes, precision, device) as buffer:
        for start, block in blocks:
            _Block(search, start, prepare_documents(block, precision, device), sizes, buffer).run()


class _Block:
    """One block of documents against all queries of a search."""

    def __init__(self, search: Search, start: int, documents: Rows, sizes: BlockSizes, buffer: Buffer) -> None:
        self.search, self.start, self.documents, self.sizes, self.buffer = search, start, documents, sizes, buffer
        self.scale = float(documents.factor.scales[0]) if len(documents.vectors) else 1.0
        queries = search.queries.factor
        with np.errstate(invalid="ignore", over="ignore"):
            known = np.fmax(search.guesses, search.last_scores())
            below = np.nextafter(known, np.float32(-np.inf), dtype=np.float32)
        thresholds = torch.from_numpy(np.where(np.isinf(known), known, below).astype(np.float64))
        added = set_thresholds(queries, thresholds.to(queries.scales.device), self.scale)
        self.widths: DoubleArray = widths(queries, added, documents.factor).cpu().numpy()
        self.added: DoubleArray = added.cpu().numpy()
        self.units: DoubleArray = queries.scales.cpu().numpy() * self.scale
        self.quarantined = np.flatnonzero(~documents.finite)

    def run(self) -> None:
        """Multiply all tiles; what they propose is ranked by as many threads as multiply."""
        n, waiting = len(self.search.guesses), []
        for low in range(0, n, self.sizes.tile_queries):
            high = min(low + self.sizes.tile_queries, n)
            found = self._multiply(low, high)
            if found:
                waiting.append((low, high, found))
            if len(waiting) == self.buffer.threads:
                self.buffer.map(lambda tile: self._absorb(*tile), waiting)
                waiting = []
        self.buffer.map(lambda tile: self._absorb(*tile), waiting)

    def _multiply(self, low: int, high: int) -> list[Found]:
        """Return what the tiles of some queries propose."""
        right = self.search.queries.factor.rows[low:high]
        excluded_documents, excluded_queries = self._excluded(low, high)
        found: list[Found] = []
        pending = 0
        for first in range(0, len(self.documents.vectors), self.sizes.tile_documents):
            left = self.documents.factor.rows[first : first + self.sizes.tile_documents]
            last = first + len(left)
            scores = self.buffer.multiply(left, right)
            part = slice(*np.searchsorted(excluded_documents, [first, last]))
            _strike(scores, excluded_documents[part] - first, excluded_queries[part])
            for row in self.quarantined[(self.quarantined >= first) & (self.quarantined < last)]:
                scores[row - first] = -1
            cells = self.buffer.not_negative(scores.numel())
            if len(cells):
                documents = cells // (high - low)
                queries = cells - documents * (high - low)
                found.append((documents + first, queries, self.buffer.values(cells)))
                pending += len(cells)
            if pending > self.sizes.pairs:
                self._absorb(low, high, found)
                found, pending = [], 0
        return found

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
        documents, queries, values = (np.concatenate(column) for column in zip(*found, strict=True))
        keep = self._undecided(low, high, queries, values)
        documents, queries = documents[keep], queries[keep]
        search = self.search
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
            documents, queries, scores = documents[~at], queries[~at], scores[~at]
        order = np.argsort(queries.astype(np.uint16), kind="stable")
        keys = pack(scores, documents + self.start)[order]
        merge(search.best[low:high], keys, np.bincount(queries, minlength=high - low))

    def _undecided(self, low: int, high: int, queries: Index, values: FloatArray) -> npt.NDArray[np.bool_]:
        """Return which pairs need their exact score; those that are surely at or above their limit are counted here."""
        rounding = self.search.queries.factor.precision.rounding
        upper = values.astype(np.float64) * (1 + rounding)
        lower = values.astype(np.float64) * (1 - rounding) - self.widths[low:high][queries]
        added, units = self.added[low:high], self.units[low:high]
        ties = 2.0**-22 + 2.0**-148 / units
        keep = np.ones(len(queries), bool)
        near = np.zeros(len(queries), bool)
        if self.search.limits is not None:
            given = self.search.limits[low:high].astype(np.float64)
            limits: DoubleArray = np.where(given <= -_LARGEST, -np.inf, given) / units + added
            keep = lower < limits[queries]
            self.search.above[low:high] += np.bincount(queries[~keep], minlength=high - low)
            near = upper >= (limits - ties)[queries]
        counts = np.bincount(queries, minlength=high - low)
        if counts.max() > self.search.k:
            order = np.argsort(queries.astype(np.uint16), kind="stable")
            sure = np.where(near | ~keep, -np.inf, lower)[order]
            floors = kth_largest(_round_down(sure), counts, self.search.k).astype(np.float64) - ties
            largest = _LARGEST / units
            floors = np.minimum(np.where(floors <= added - largest, -np.inf, floors), added + largest - ties)
            keep &= near | (upper >= floors[queries])
        return keep


def _round_down(values: DoubleArray) -> FloatArray:
    return np.nextafter(values.astype(np.float32), np.float32(-np.inf), dtype=np.float32)


def _strike(scores: torch.Tensor, rows: Index, columns: Index) -> None:
    if len(rows):
        cells = torch.from_numpy(rows * scores.shape[1] + columns).to(scores.device)
        scores.view(-1).index_fill_(0, cells, -1)
