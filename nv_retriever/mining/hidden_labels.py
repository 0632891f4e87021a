"""The upper bound of an ablation: a miner that also knows the labels that the data set hides (`known_positives`)."""

from __future__ import annotations

from nv_retriever.data.dataset import Dataset
from nv_retriever.data.hidden import HiddenPositives
from nv_retriever.mining.types import BoolArray, Rows
from nv_retriever.search.types import IntArray


class HiddenLabels:
    """Vetoes the hidden positives of a query and of those with its text, and every document with the content of one."""

    def __init__(self, dataset: Dataset, split: str) -> None:
        self._positives, self._rows = HiddenPositives(dataset), dataset.query_rows(split)

    def __call__(self, samples: Rows, queries: IntArray, documents: IntArray) -> BoolArray:
        """Return which documents are hidden positives of the queries (rows of the candidate tables), (n,) each."""
        return self._positives.contain(self._rows[queries], documents)
