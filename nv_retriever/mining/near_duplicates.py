"""A second look at survivors: one that nearly copies a positive is another positive, whatever its score.

Exact copies are excluded beforehand by content hash; this guard catches edited ones, by the cosine of the teacher's
document vectors, or by the Jaccard similarity of word shingles (MinHash) for teachers without vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from nv_retriever.mining.types import BoolArray, Rows
from nv_retriever.ragged import ranges, row_offsets
from nv_retriever.search.types import Exclusions, FloatArray, IntArray, Reason

Similarity = Callable[[npt.NDArray[np.integer], npt.NDArray[np.integer]], FloatArray]
"""Gives the similarity of pairs of documents, (n,) and (n,) rows -> (n,) float32, 1 for equal ones."""
_PAIRS = 1 << 16
"""Pairs of a survivor and a positive that are compared at once."""
_GATHERED = 1 << 12
"""Pairs whose vectors are in memory at a time."""


@runtime_checkable
class DocumentVectors(Protocol):
    """What a dense scorer has as `documents`."""

    @property
    def dim(self) -> int:
        """Numbers per vector."""
        ...

    def take(self, rows: npt.NDArray[np.integer]) -> FloatArray:
        """Return the vectors of some documents, (n, dim)."""
        ...


def cosine_similarity(documents: DocumentVectors) -> Similarity:
    """Return the cosines of documents, computed in float64 and rounded once."""

    def similarity(left: npt.NDArray[np.integer], right: npt.NDArray[np.integer]) -> FloatArray:
        """Return the cosines of pairs of documents, (n,) and (n,) -> (n,) float32."""
        values = np.empty(len(left), np.float32)
        for start in range(0, len(left), _GATHERED):
            part = slice(start, start + _GATHERED)
            rows, back = np.unique(np.concatenate([left[part], right[part]]), return_inverse=True)
            vectors = documents.take(rows).astype(np.float64)
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            half = len(back) // 2
            values[part] = (vectors[back[:half]] * vectors[back[half:]]).sum(axis=1)
        return values

    return similarity


class NearDuplicates:
    """Vetoes documents at least `threshold` similar to a positive of the query, or of any query with the same text."""

    def __init__(self, similarity: Similarity, threshold: float, exclusions: Exclusions) -> None:
        positive = np.isin(exclusions.reasons, (Reason.POSITIVE, Reason.SAME_QUERY))
        self._offsets = row_offsets(positive)[exclusions.offsets]
        self._positives = exclusions.documents[positive]
        self._similarity, self._threshold = similarity, threshold
        self.found = 0
        """Pairs (query, document) vetoed so far."""

    def __call__(self, samples: Rows, queries: IntArray, documents: IntArray) -> BoolArray:
        """Return which documents are too similar to a positive, (n,) each."""
        pairs, back = np.unique(np.stack([queries, documents], 1), axis=0, return_inverse=True)
        near = np.zeros(len(pairs), bool)
        firsts, counts = self._offsets[pairs[:, 0]], np.diff(self._offsets)[pairs[:, 0]]
        done = row_offsets(counts)
        start = 0
        while start < len(pairs):
            stop = max(int(np.searchsorted(done, done[start] + _PAIRS, side="right")) - 1, start + 1)
            owner, inside = ranges(firsts[start:stop], counts[start:stop])
            values = self._similarity(pairs[start:stop][owner, 1], self._positives[inside])
            near[start + owner[values >= np.float32(self._threshold)]] = True
            start = stop
        self.found += int(near.sum())
        found: BoolArray = near[back.reshape(-1)]
        return found
