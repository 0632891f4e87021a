"""The positives that a data set hides (`known_positives`): for counting false negatives and for an oracle, nobody else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nv_retriever.data.dataset import Dataset


class HiddenPositives:
    """Tells which documents are hidden positives of a query or of one with its text, or have the content of one."""

    def __init__(self, dataset: Dataset) -> None:
        """Read the hidden labels."""
        labels = dataset.hidden()
        _, self._texts = np.unique(dataset.query_hashes, return_inverse=True)
        self._groups, self._n_documents = dataset.groups.astype(np.int64), max(dataset.n_documents, 1)
        self._keys = np.unique(self._pairs(labels.query_rows, labels.document_rows))

    def contain(self, query_rows: npt.NDArray[np.integer], document_rows: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Return which pairs of rows are hidden positives, (n,) and (n,) -> (n,) bool."""
        return np.isin(self._pairs(query_rows, document_rows), self._keys)

    def _pairs(self, query_rows: npt.NDArray[np.integer], document_rows: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        texts = self._texts[query_rows].astype(np.int64)
        pairs: npt.NDArray[np.int64] = texts * self._n_documents + self._groups[document_rows]
        return pairs
