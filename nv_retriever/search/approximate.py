"""Approximate search with exact scores: an index finds the candidates, the vectors score them, exact search fills up."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import InputError
from nv_retriever.files import write_aside
from nv_retriever.search.index import FaissIndex, IndexName
from nv_retriever.search.mapped import gather
from nv_retriever.search.ranking import EMPTY, pack, unpack
from nv_retriever.search.types import Exclusions, FloatArray, ScoreKind, Scorer, TopK
from nv_retriever.search.vectors import VectorScorer

logger = logging.getLogger(__name__)
INDEX_FILE = "index.faiss"
SAMPLE = 256
"""Queries on which recall is measured."""
_PAIRS = 1 << 20


class ApproximateScorer:
    """A Scorer whose candidates come from an index and whose scores are exact.

    A few more neighbours than excluded documents are fetched; a query that stays short, and every search below limits
    (whose counts must be exact), is answered by the exact search.
    """

    def __init__(self, exact: VectorScorer, index: FaissIndex) -> None:
        self.exact, self.index = exact, index
        self.name = str(index.name)
        self.score_kind: ScoreKind = exact.score_kind
        self.n_queries, self.n_documents = exact.n_queries, exact.n_documents

    def score_pairs(self, query_rows: npt.NDArray[np.integer], document_rows: npt.NDArray[np.integer]) -> FloatArray:
        """Return the scores of pairs, exact."""
        return self.exact.score_pairs(query_rows, document_rows)

    def search(
        self, query_rows: npt.NDArray[np.integer], k: int, excluded: Exclusions, limits: FloatArray | None = None
    ) -> TopK:
        """Return about the k best allowed documents of each query, exactly scored and ordered."""
        if limits is not None or not k:
            return self.exact.search(query_rows, k, excluded, limits)
        n = len(query_rows)
        result = TopK.empty(n, k)
        lengths = np.diff(excluded.offsets)
        order = np.argsort(lengths, kind="stable")
        short = []
        step = max(1, _PAIRS // (k + 1))
        for start in range(0, n, step):
            rows = order[start : start + step]
            short.append(rows[~self._search(query_rows, rows, k, excluded.take(rows), result)])
        left = np.sort(np.concatenate(short)) if short else np.empty(0, np.int64)
        if len(left):
            logger.info("%s leaves %d of %d queries short: exact search", self.name, len(left), n)
            filled = self.exact.search(query_rows[left], k, excluded.take(left))
            result.documents[left], result.scores[left] = filled.documents, filled.scores
        return result

    def _search(
        self, query_rows: npt.NDArray[np.integer], rows: npt.NDArray[np.int64], k: int, excluded: Exclusions, result: TopK
    ) -> npt.NDArray[np.bool_]:
        """Fill the rows of the result and return which are full."""
        some = query_rows[rows]
        fetched = self.index.neighbours(gather(self.exact.queries, some), k + int(np.diff(excluded.offsets).max(initial=0)))
        queries = np.repeat(np.arange(len(rows)), fetched.shape[1])
        documents = fetched.reshape(-1)
        forbidden = excluded.queries.astype(np.int64) * self.n_documents + excluded.documents
        out = np.isin(queries * self.n_documents + documents, forbidden)
        keep = (documents >= 0) & ~out
        keys = np.full(len(documents), EMPTY)
        scores = self.exact.score_pairs(some[queries[keep]], documents[keep])
        finite = np.isfinite(scores)
        keys[np.flatnonzero(keep)[finite]] = pack(scores[finite], documents[keep][finite])
        best = np.sort(keys.reshape(fetched.shape), axis=1)[:, :k]
        width = best.shape[1]
        result.documents[rows, :width], result.scores[rows, :width] = unpack(best)
        full: npt.NDArray[np.bool_] = result.documents[rows, -1] >= 0
        return full

    def measure_recall(self, k: int) -> float:
        """Return the share of the exact k best that the index finds, over a fixed sample of queries."""
        rows = np.unique(np.linspace(0, self.n_queries - 1, min(SAMPLE, self.n_queries)).astype(np.int64))
        if not len(rows) or not k:
            return 1.0
        wanted = self.exact.search(rows, k, Exclusions.none(len(rows))).documents
        found = self.index.neighbours(gather(self.exact.queries, rows), k)
        hits = sum(len(np.intersect1d(a[a >= 0], b)) for a, b in zip(wanted, found, strict=True))
        return hits / max(int((wanted >= 0).sum()), 1)


def approximate_scorer(scorer: Scorer, index: str, folder: Path) -> ApproximateScorer:
    """Return an approximate scorer over a dense teacher's vectors; the index is built once and kept in `folder`.

    Raises InputError for teachers that have no vectors.
    """
    if not isinstance(scorer, VectorScorer):
        raise InputError("index", "`exact` for teachers that are not vectors", repr(index))
    name = IndexName.parse(index)
    path = folder / INDEX_FILE
    if not path.exists():
        with write_aside(path) as aside:
            FaissIndex.build(name, scorer.documents, scorer.quarantined_documents, scorer.device).save(aside)
    return ApproximateScorer(scorer, FaissIndex.open(path, name, scorer.quarantined_documents, scorer.device))
