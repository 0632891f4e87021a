"""Which relevance labels count: their splits, leaks that training may not see, what limits leave out, what a study hides."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.splits import assign_splits, first_by_hash, kept_labels
from nv_retriever.errors import InputError

logger = logging.getLogger(__name__)
TRAIN = "train"
"""The split of which `train_limit` and `known_positives` speak; dev and test keep all their labels."""
EVALUATION = ("dev", "test")
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Labels:
    """Relevance labels in columns, (n,) each, sorted by split, query row, document row."""

    split: npt.NDArray[np.object_]
    query_rows: npt.NDArray[np.int32]
    document_rows: npt.NDArray[np.int32]
    grades: npt.NDArray[np.int32]
    positive: Mask
    """Whether the grade is at least the data set's `min_grade`."""

    def queries(self, mask: Mask) -> int:
        """Return how many queries the labels that `mask` (n,) selects belong to."""
        return len(np.unique(self.query_rows[mask]))


def assign_labels(columns: Mapping[str, Any], content: Sequence[bytes], config: DatasetConfig) -> Labels:
    """Return the labels of `Canonical.labels` in their splits; where none is given, a hash of the query's `content` decides.

    Raises InputError where none is positive.
    """
    given = np.asarray(columns["split"], object)
    query_rows, document_rows, grades = (np.asarray(columns[name]) for name in ("query_row", "doc_row", "grade"))
    split = assign_splits(given, query_rows, content)
    _tell_split_by_hash(config.source, split[given == ""], query_rows[given == ""])
    order = np.lexsort((document_rows, query_rows, split.astype(str)))
    grades = grades[order]
    positive = grades >= config.min_grade
    if not positive.any():
        found = f"{len(positive)} labels, none of grade {config.min_grade} or more" if len(positive) else "no labels"
        hint = "min_grade says from which grade a label counts"
        raise InputError(config.source, "at least one positive label", found, hint)
    return Labels(split[order], query_rows[order], document_rows[order], grades, positive)


def _tell_split_by_hash(source: str, split: npt.NDArray[np.object_], query_rows: npt.NDArray[np.int32]) -> None:
    if len(split):
        dev, test = (len(np.unique(query_rows[split == name])) for name in EVALUATION)
        text = "%s: %d of the %d queries that no split is given for are kept for dev and %d for test, by a hash of their "
        text += "texts; to choose, name the files by their splits (train.jsonl, test.jsonl) or add a column split"
        logger.warning(text, source, dev, len(np.unique(query_rows)), test)


def find_leaked(labels: Labels, content: Sequence[bytes], config: DatasetConfig) -> Mask:
    """Return which labels `on_leak` drops, (n,): of queries of the split `train` that dev or test asks too.

    Raises InputError where that is all of them.
    """
    train = labels.split == TRAIN
    leaked: Mask = np.zeros(len(train), np.bool_)
    if config.on_leak == "drop":
        evaluated = labels.positive & np.isin(labels.split, EVALUATION)
        measured = {content[row] for row in np.unique(labels.query_rows[evaluated]).tolist()}
        rows = [row for row in np.unique(labels.query_rows[train]).tolist() if content[row] in measured]
        leaked = train & np.isin(labels.query_rows, rows)
    if leaked.any() and leaked.sum() == train.sum():
        raise InputError(config.source, "training queries that dev and test do not ask", "none", "see dataset.on_leak")
    return leaked


def find_active(labels: Labels, leaked: Mask, ids: Sequence[str], config: DatasetConfig) -> Mask:
    """Return which labels are of queries that are used, (n,): not leaked, and within `limit` and `train_limit`."""
    active = ~leaked
    for name in set(labels.split):
        limits = [limit for limit in (config.limit, config.train_limit if name == TRAIN else None) if limit is not None]
        if limits:
            inside = labels.split == name
            chosen = first_by_hash(np.unique(labels.query_rows[inside & labels.positive & ~leaked]), ids, min(limits))
            active[inside] &= np.isin(labels.query_rows[inside], chosen)
    return active


def find_hidden(labels: Labels, ids: Sequence[str], config: DatasetConfig) -> Mask:
    """Return which labels are hidden, (n,): positives of queries of the split `train` beyond `known_positives`."""
    hidden = np.zeros(len(labels.split), np.bool_)
    if config.known_positives is not None:
        train = np.flatnonzero((labels.split == TRAIN) & labels.positive)
        kept = kept_labels(labels.query_rows[train], ids, config.known_positives, config.hiding_seed)
        hidden[train[~kept]] = True
    return hidden
