"""Exact search over vectors on disk, in flat memory: the dense teachers' Scorer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from nv_retriever.config import Runtime
from nv_retriever.errors import InputError
from nv_retriever.hardware import device_kind
from nv_retriever.ragged import Index
from nv_retriever.search.blockwise import Search, scan
from nv_retriever.search.exact import pair_scores
from nv_retriever.search.mapped import VectorSource, gather, stream
from nv_retriever.search.memory import BlockSizes, block_sizes
from nv_retriever.search.precision import Precision, fastest_precision
from nv_retriever.search.precision_below import precision_below
from nv_retriever.search.prepared import Prepared, prepare_documents, prepare_queries, upper_norms
from nv_retriever.search.proposals import Queries
from nv_retriever.search.ranking import unpack
from nv_retriever.search.rounds import Rounds, rounds_of
from nv_retriever.search.sampling import Sample, guess_thresholds, sample_rows
from nv_retriever.search.tile import Workers
from nv_retriever.search.types import Exclusions, FloatArray, IntArray, ScoreKind, TopK

_PAIRS = 1024
"""Pairs that are scored, or queries whose keys are unpacked, at once: their numbers stay in the cache."""
_STRIDE = 6
"""A guess that was too high is followed by one this many times deeper in the sample."""


class VectorScorer:
    """Scores are inner products of fp32 vectors, correctly rounded; search is exact and within the memory budget.

    Rows that are not finite are quarantined: never returned, never found, their scores are NaN.
    """

    def __init__(
        self,
        queries: VectorSource,
        documents: VectorSource,
        score_kind: ScoreKind,
        runtime: Runtime | None = None,
        precision: Precision | None = None,
    ) -> None:
        if queries.dim != documents.dim and queries.n and documents.n:
            raise InputError("vectors", f"queries of {documents.dim} numbers, as the documents", str(queries.dim))
        self.queries, self.documents, self.score_kind = queries, documents, score_kind
        self.n_queries, self.n_documents = queries.n, documents.n
        self.runtime = runtime or Runtime()
        self.device = device_kind(self.runtime)
        self._precision = precision

    def precision(
        self, k: int, query_rows: npt.NDArray[np.integer] | None = None, limits: FloatArray | None = None
    ) -> Precision:
        """Return the format of the proposals for the k best, or the k best below limits; it changes the speed alone."""
        if self._precision:
            return self._precision
        if limits is None or query_rows is None:
            return fastest_precision(self.device, k, self.n_documents)
        return precision_below(self.queries, self.documents, query_rows, limits, self.device)

    def block_sizes(self, k: int, precision: Precision | None = None) -> BlockSizes:
        """Return how much is in memory at a time in a search for k documents."""
        threads = torch.get_num_threads() if self.device == "cpu" else 1
        cell = (precision or self.precision(k)).dtype.itemsize
        return block_sizes(self.runtime.memory_budget_bytes(), self.documents.dim, k, cell, threads, self.device)

    @cached_property
    def quarantined_documents(self) -> IntArray:
        """Rows of documents whose vectors are not finite, ascending."""
        return _not_finite(self.documents)

    @cached_property
    def quarantined_queries(self) -> IntArray:
        """Queries whose vectors are not finite, ascending."""
        return _not_finite(self.queries)

    def search(
        self, query_rows: npt.NDArray[np.integer], k: int, excluded: Exclusions, limits: FloatArray | None = None
    ) -> TopK:
        """Return the k best allowed documents of each query, strictly below its limit where limits are given."""
        n = len(query_rows)
        result = TopK.empty(n, k)
        if not n or not self.n_documents or (not k and limits is None):
            return result
        queue = _Queue(np.asarray(query_rows), min(max(k, 1), self.n_documents), excluded, limits)
        precision = self.precision(queue.k, queue.query_rows, queue.limits)
        sizes = self.block_sizes(queue.k, precision)
        with Workers(sizes, precision, self.device) as workers:
            sample = self._sample(sizes, workers)
            while len(queue.pending):
                failed = []
                for start in range(0, len(queue.pending), sizes.queries):
                    rows = queue.pending[start : start + sizes.queries]
                    done = queue.settle(self._pass(queue, rows, sample, sizes, workers), rows, result)
                    failed.append(rows[~done])
                queue.retry(np.concatenate(failed))
        return result

    def _pass(self, queue: _Queue, rows: Index, sample: Sample, sizes: BlockSizes, workers: Workers) -> Search:
        """Search some of the pending queries in one pass over the documents."""
        excluded = queue.excluded.take(rows)
        rounds = rounds_of(queue.query_rows[rows], excluded)
        padding = rounds.spans[0].stop - len(rounds.first)
        vectors = gather(self.queries, queue.query_rows[rows[rounds.first]], padding)
        queries = prepare_queries(vectors, workers.precision, self.device, workers.parts)
        search = queue.prepare(queries, rounds, rows, excluded.take(rounds.first))
        queue.guess(search, rows, sample, self.n_documents, workers)
        scan(search, stream(self.documents, sizes.documents), sizes, workers)
        return search

    def score_pairs(self, query_rows: npt.NDArray[np.integer], document_rows: npt.NDArray[np.integer]) -> FloatArray:
        """Return the scores of pairs, (n,) and (n,) -> (n,) float32; NaN where a vector is not finite."""
        scores = np.empty(len(query_rows), np.float32)
        sizes = self.block_sizes(1)
        order = np.argsort(document_rows, kind="stable")
        step = min(sizes.documents, sizes.queries, _PAIRS)
        for start in range(0, len(order), step):
            part = order[start : start + step]
            documents, document_of = np.unique(document_rows[part], return_inverse=True)
            queries, query_of = np.unique(query_rows[part], return_inverse=True)
            left, left_norms, left_finite = _double(gather(self.queries, queries), self.device)
            right, right_norms, right_finite = _double(gather(self.documents, documents), self.device)
            found = pair_scores(left, right, left_norms, right_norms, query_of, document_of)
            scores[part] = np.where(left_finite[query_of] & right_finite[document_of], found, np.float32(np.nan))
        return scores

    def _sample(self, sizes: BlockSizes, workers: Workers) -> Sample:
        rows = sample_rows(self.n_documents, sizes.documents)
        vectors = gather(self.documents, rows)
        return Sample(rows, prepare_documents(vectors, workers.precision, self.device, workers.parts))


@dataclass
class _Queue:
    """Queries whose k best are not proven yet."""

    query_rows: npt.NDArray[np.integer]
    k: int
    excluded: Exclusions
    limits: FloatArray | None

    def __post_init__(self) -> None:
        n = len(self.query_rows)
        self.limits = None if self.limits is None else np.asarray(self.limits, np.float32)
        self.pending: Index = np.arange(n)
        self.proven = np.full(n, np.nan, np.float32)
        """The k-th best of a pass that failed: surely reached by k documents."""
        self.deeper = 1

    def prepare(self, queries: Prepared[Queries], rounds: Rounds, rows: Index, excluded: Exclusions) -> Search:
        """Return a search for some rows; those that can't find anything, and the padding, get a guess of +inf."""
        ends = np.full(len(queries.finite) - len(rounds.first), excluded.offsets[-1])
        excluded = Exclusions(np.concatenate([excluded.offsets, ends]), excluded.documents, excluded.reasons)
        hopeless = np.ones(len(rounds.columns), bool)
        hopeless[rounds.places] = ~queries.finite[rounds.columns[rounds.places]]
        limits = None
        if self.limits is not None:
            limits = np.zeros(len(hopeless), np.float32)
            limits[rounds.places] = self.limits[rows]
            hopeless |= np.isnan(limits)
        guesses = np.where(hopeless, np.float32(np.inf), np.float32(-np.inf))
        return Search(queries, rounds, self.k, excluded, guesses, limits)

    def guess(self, search: Search, rows: Index, sample: Sample, n_documents: int, workers: Workers) -> None:
        """Set the thresholds of a pass: what an earlier pass proved, else a guess, never above the limit."""
        guesses = guess_thresholds(search, sample, n_documents, self.deeper, workers)
        if search.limits is not None:
            guesses = np.minimum(guesses, search.limits)
        proven = np.full(len(guesses), np.nan, np.float32)
        proven[search.rounds.places] = self.proven[rows]
        guesses = np.where(np.isnan(proven), guesses, proven)
        search.guesses = np.where(np.isposinf(search.guesses), search.guesses, guesses)

    def settle(self, search: Search, rows: Index, result: TopK) -> npt.NDArray[np.bool_]:
        """Write what is proven; returns which of the rows are."""
        places, k = search.rounds.places, min(self.k, result.documents.shape[1])
        done: npt.NDArray[np.bool_] = search.complete()[places]
        proven = np.flatnonzero(done)
        for start in range(0, len(proven), _PAIRS):
            some = proven[start : start + _PAIRS]
            result.documents[rows[some], :k], result.scores[rows[some], :k] = unpack(search.best[places[some], :k])
        result.above[rows[proven]] = search.above[places[proven]]
        self.proven[rows] = search.last_scores()[places]
        return done

    def retry(self, failed: Index) -> None:
        """Queue the queries whose guess was too high."""
        self.pending, self.deeper = failed, self.deeper * _STRIDE


def _double(vectors: FloatArray, device: str) -> tuple[torch.Tensor, npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return rows as float64, at least their norms, and which are finite (the others become zeros)."""
    double = torch.from_numpy(vectors.astype(np.float64)).to(device)
    norms, finite = upper_norms(double)
    return double, norms, finite


def _not_finite(vectors: VectorSource) -> IntArray:
    known = getattr(vectors, "quarantined", None)
    if known is not None:
        return np.asarray(known, np.int32)
    found = [np.empty(0, np.int32)]
    for start, block in stream(vectors, 8192):
        finite = np.isfinite(np.einsum("ij->i", block, dtype=np.float64))
        found.append((start + np.flatnonzero(~finite)).astype(np.int32))
    return np.concatenate(found)
