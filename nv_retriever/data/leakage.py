"""Leakage: what of the evaluation was trained on, by normalised text and by content, whatever the ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nv_retriever.data.dataset import Dataset, IntArray


@dataclass(frozen=True)
class Leakage:
    """Overlap of an evaluation split with a training split; rows are those of the evaluation's data set."""

    queries: IntArray
    """Evaluation queries whose normalised text is a training query's, int32, ascending."""
    positives: IntArray
    """Documents that are positives of the evaluation and, by content, of the training, int32, ascending."""
    positive_queries: IntArray
    """Evaluation queries that have such a positive, int32, ascending."""
    n_queries: int
    """Queries of the evaluation split."""
    n_positives: int
    """Different positives of the evaluation split."""

    def __bool__(self) -> bool:
        """Whether a query leaked: the same positive under another question is common (passages with many questions)."""
        return len(self.queries) > 0

    def __str__(self) -> str:
        return (
            f"{len(self.queries)} of {self.n_queries} evaluation queries are training queries, "
            f"{len(self.positives)} of {self.n_positives} evaluation positives are training positives"
        )


def find_leakage(train: Dataset, train_split: str, evaluation: Dataset, evaluation_split: str) -> Leakage:
    """Return which queries and positives of an evaluation split occur in a training split.

    Queries are compared by the hash of their normalised text; positives by that of their view or of their text alone
    (another title or template hides nothing). Raises InputError for a missing split.
    """
    trained, measured = train.positives(train_split), evaluation.positives(evaluation_split)
    train_rows, rows = np.unique(trained.query_rows), np.unique(measured.query_rows)
    queries = rows[np.isin(evaluation.query_hashes[rows], train.query_hashes[train_rows])]
    train_documents, documents = np.unique(trained.document_rows), np.unique(measured.document_rows)
    same: npt.NDArray[np.bool_] = np.zeros(len(documents), np.bool_)
    hashes: tuple[Callable[[Dataset], npt.NDArray[np.bytes_]], ...] = (
        lambda dataset: dataset.document_hashes,
        lambda dataset: dataset.document_text_hashes,
    )
    for of in hashes:
        same |= np.isin(of(evaluation)[documents], of(train)[train_documents])
    positives = documents[same]
    touched = np.unique(measured.query_rows[np.isin(measured.document_rows, positives)])
    return Leakage(queries, positives, touched, len(rows), len(documents))
