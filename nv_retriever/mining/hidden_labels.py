"""The upper bound of an ablation: a miner that also knows the labels that the data set hides (`known_positives`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nv_retriever.data.dataset import Dataset
from nv_retriever.mining.types import BoolArray, Rows
from nv_retriever.search.types import IntArray


class HiddenLabels:
    """Vetoes the hidden positives of a query, and every document with the content of one."""

    def __init__(self, dataset: Dataset, split: str) -> None:
        """Read the hidden labels of the split's queries."""
        hidden = dataset.hidden()
        self._rows, self._groups = dataset.query_rows(split).astype(np.int64), dataset.groups.astype(np.int64)
        self._n_documents = max(dataset.n_documents, 1)
        self._hidden = np.unique(self._keys(hidden.query_rows, hidden.document_rows))

    def _keys(self, query_rows: npt.NDArray[np.integer], documents: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        keys: npt.NDArray[np.int64] = query_rows.astype(np.int64) * self._n_documents + self._groups[documents]
        return keys

    def __call__(self, samples: Rows, queries: IntArray, documents: IntArray) -> BoolArray:
        """Return which documents are hidden positives of the queries (rows of the candidate tables), (n,) each."""
        return np.isin(self._keys(self._rows[queries], documents), self._hidden)
