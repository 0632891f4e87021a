"""Known positives: which passages can never be a negative of a query, whoever brought them into the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.data.dataset import Dataset
from nv_retriever.search.types import IntArray

BoolArray = npt.NDArray[np.bool_]


class KnownPositives:
    """For each query, the content groups of its positives in all splits, of its siblings', and of its own text.

    Siblings are queries with the same normalised text; a group holds the documents with the same normalised content.
    """

    def __init__(self, dataset: Dataset, query_rows: IntArray | None = None, positive_rows: IntArray | None = None) -> None:
        """Read the labels; `query_rows` and `positive_rows` (n,) are pairs known beyond them.

        Such are the samples' own pairs, and those that a judge did not keep.
        """
        hashes = np.asarray(dataset.query_hashes)
        _, self._classes = np.unique(hashes, return_inverse=True)
        self.groups = np.asarray(dataset.groups)
        positives = dataset.positives()
        pairs = [np.stack([self._classes[positives.query_rows], self.groups[positives.document_rows]], axis=1)]
        pairs.append(self._same_text(dataset, hashes))
        if query_rows is not None and positive_rows is not None:
            pairs.append(np.stack([self._classes[query_rows], self.groups[positive_rows]], axis=1))
        known = np.unique(np.concatenate(pairs).astype(np.int64), axis=0)
        n_classes = int(self._classes.max(initial=-1)) + 1
        self._offsets = np.searchsorted(known[:, 0], np.arange(n_classes + 1))
        self._known = known[:, 1]

    def _same_text(self, dataset: Dataset, hashes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return (class, group) of the documents whose text is a query's, (n, 2)."""
        found = []
        for documents in (np.asarray(dataset.document_hashes), np.asarray(dataset.document_text_hashes)):
            unique, first = np.unique(hashes, return_index=True)
            place = np.minimum(np.searchsorted(unique, documents), len(unique) - 1)
            same = np.flatnonzero(unique[place] == documents) if len(unique) else np.empty(0, np.int64)
            found.append(np.stack([self._classes[first[place[same]]], self.groups[same]], axis=1))
        return np.concatenate(found)

    def mask(self, query_rows: IntArray, positive_rows: IntArray, document_rows: IntArray) -> BoolArray:
        """Return which of the documents are known positives of each query, (b,), (b,) and (m,) -> (b, m) bool.

        `positive_rows` are the samples' own positives: their groups count as known even where the labels lack them.
        """
        groups = self.groups[document_rows]
        order = np.argsort(groups, kind="stable")
        ordered = groups[order]
        result = np.zeros((len(query_rows), len(document_rows)), dtype=bool)
        for i, (query, positive) in enumerate(zip(query_rows.tolist(), positive_rows.tolist(), strict=True)):
            kind = self._classes[query]
            known = np.append(self._known[self._offsets[kind] : self._offsets[kind + 1]], self.groups[positive])
            starts, stops = np.searchsorted(ordered, known, "left"), np.searchsorted(ordered, known, "right")
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
                result[i, order[start:stop]] = True
        return result
