"""How many mined negatives are false, counted exactly: where the data set hides labels, every one of them is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from nv_retriever.data.dataset import Dataset
from nv_retriever.data.hidden import HiddenPositives


@dataclass(frozen=True)
class FalseNegatives:
    """Mined negatives, and those among them that are hidden positives."""

    negatives: int
    false: int

    @property
    def rate(self) -> float | None:
        """The share; None without negatives."""
        return self.false / self.negatives if self.negatives else None

    def __add__(self, other: FalseNegatives) -> FalseNegatives:
        return FalseNegatives(self.negatives + other.negatives, self.false + other.false)


def count_false_negatives(dataset: Dataset, mining: Path) -> FalseNegatives:
    """Return how many negatives of a mining artifact are hidden positives of their query, or have the content of one.

    So are those of another query with its text. A document that is a negative of several of a query's samples counts each
    time, as it does in training.
    """
    table = pq.read_table(mining / "triples.parquet", columns=["query_id", "negative_id"])
    queries = np.searchsorted(dataset.query_ids, np.asarray(table.column("query_id").to_pylist(), object))
    documents = np.searchsorted(dataset.document_ids, np.asarray(table.column("negative_id").to_pylist(), object))
    false = HiddenPositives(dataset).contain(queries, documents)
    return FalseNegatives(len(false), int(false.sum()))
