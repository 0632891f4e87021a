"""Ingestion: any source becomes one canonical data set on disk, checked, sorted by id, with content hashes."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.artifacts import write_aside, write_json
from nv_retriever.data.canonical import Canonical
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.open import empty_policy, open_source
from nv_retriever.data.records import Problems, Source
from nv_retriever.data.splits import assign_splits, first_by_hash, kept_labels, split_order
from nv_retriever.data.staging import Staging
from nv_retriever.data.text import TextView
from nv_retriever.errors import InputError

logger = logging.getLogger(__name__)
QRELS = pa.schema(
    [
        pa.field("split", pa.dictionary(pa.int32(), pa.string())),
        pa.field("query_row", pa.int32()),
        pa.field("doc_row", pa.int32()),
        pa.field("grade", pa.int32()),
        pa.field("active", pa.bool_()),
    ]
)
"""`active` is False for labels of queries beyond `limit` or dropped by `on_leak`: known relevance that is neither mined nor
evaluated."""
TRAIN = "train"
"""The split of which `train_limit` and `known_positives` speak; dev and test keep all their labels."""
EVALUATION = ("dev", "test")


def source_digest(config: DatasetConfig) -> str:
    """Return a digest of the content behind `config.source`: what must change the data set's fingerprint.

    The content of the files read; for `stdlib` the interpreter and the generator's version; for the hub the commit.
    """
    return open_source(config).digest()


def write_dataset(folder: Path, config: DatasetConfig) -> dict[str, Any]:
    """Read the source and fill `folder` (corpus, queries, qrels as parquet, dataset.json); returns what dataset.json says.

    Memory stays flat: texts are streamed to unsorted files and sorted out of core. Raises InputError for wrong input.
    """
    source = open_source(config)
    staged = folder / "staged"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        counts = _stage(source, staged, config)
        with Canonical(staged, source.repeats) as canonical:
            info = _write(folder, canonical, source, config, counts)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    write_json(folder / "dataset.json", info)
    for name, count in info["skipped"].items():
        logger.warning("%s: %d %s (skipped or noted)", config.source, count, name.replace("_", " "))
    return info


def _stage(source: Source, staged: Path, config: DatasetConfig) -> dict[str, int]:
    staging = Staging(staged, TextView(config.document_template), empty_policy(config))
    problems = Problems()
    staging.documents(source.documents(problems), problems)
    staging.queries(source.queries(problems), problems)
    staging.labels(source.labels(problems), problems)
    return dict(staging.counts)


def _write(
    folder: Path, canonical: Canonical, source: Source, config: DatasetConfig, counts: dict[str, int]
) -> dict[str, Any]:
    n_documents = canonical.load("documents", "view_hash")
    n_queries = canonical.load("queries", "text_hash")
    for kind, count in (("documents", n_documents), ("queries", n_queries)):
        if not count:
            raise InputError(config.source, f"at least one of its {kind}", "none")
    counts |= canonical.load_labels(config.on_unknown)
    digests = [canonical.write_corpus(folder / "corpus.parquet"), canonical.write_queries(folder / "queries.parquet")]
    labels = canonical.labels()
    content = canonical.query_column("content")
    given = np.asarray(labels["split"], object)
    split = assign_splits(given, labels["query_row"], content)
    _tell_split_by_hash(config.source, split[given == ""], labels["query_row"][given == ""])
    positive = labels["grade"] >= config.min_grade
    if not positive.any():
        found = f"{len(positive)} labels, none of grade {config.min_grade} or more" if len(positive) else "no labels"
        raise InputError(
            config.source, "at least one positive label", found, "min_grade says from which grade a label counts"
        )
    ids = canonical.query_column("id")
    leaked = _leaked(split, labels["query_row"], positive, content, config)
    counts["train_queries_of_dev_or_test"] = len(np.unique(labels["query_row"][leaked]))
    active = ~leaked & _active(split, labels["query_row"], positive & ~leaked, ids, config)
    hidden = _hidden(split, labels, positive, ids, config)
    columns = [split, *(np.asarray(labels[name]) for name in ("query_row", "doc_row", "grade")), active]
    order = np.lexsort((labels["doc_row"], labels["query_row"], split.astype(str)))
    known = order[~hidden[order]]
    digests.append(_write_qrels(folder / "qrels.parquet", [column[known] for column in columns]))
    if config.known_positives is not None:
        apart = order[hidden[order]]
        digests.append(_write_qrels(folder / "hidden.parquet", [column[apart] for column in columns]))
    positive, active = positive & ~hidden, active & ~hidden
    names = sorted(set(split[positive & active]), key=split_order)
    return {
        "name": source.name,
        "source": config.source,
        "documents": n_documents,
        "queries": n_queries,
        "splits": {name: _split_counts(labels, positive, active & (split == name)) for name in names},
        "queries_without_labels": n_queries - len(np.unique(labels["query_row"])),
        "template": config.document_template,
        "min_grade": config.min_grade,
        "limit": config.limit,
        "train_limit": config.train_limit,
        "known_positives": config.known_positives,
        "hidden": int(hidden.sum()),
        "skipped": {name: count for name, count in sorted(counts.items()) if count},
        "digest": hashlib.sha256(json.dumps([digests, config.document_template, config.min_grade]).encode()).hexdigest(),
    }


def _tell_split_by_hash(source: str, split: npt.NDArray[np.object_], query_row: npt.NDArray[np.int32]) -> None:
    if len(split):
        dev, test = (len(np.unique(query_row[split == name])) for name in EVALUATION)
        text = "%s: %d of the %d queries that no split is given for are kept for dev and %d for test, by a hash of their "
        text += "texts; to choose, name the files by their splits (train.jsonl, test.jsonl) or add a column split"
        logger.warning(text, source, dev, len(np.unique(query_row)), test)


def _leaked(
    split: npt.NDArray[np.object_],
    query_row: npt.NDArray[np.int32],
    positive: npt.NDArray[np.bool_],
    content: list[bytes],
    config: DatasetConfig,
) -> npt.NDArray[np.bool_]:
    """Return which labels `on_leak` drops: of queries of the split `train` that dev or test asks too; raises if all do."""
    if config.on_leak == "keep":
        return np.zeros(len(split), np.bool_)
    train = split == TRAIN
    measured = {content[row] for row in np.unique(query_row[positive & np.isin(split, EVALUATION)]).tolist()}
    rows = [row for row in np.unique(query_row[train]).tolist() if content[row] in measured]
    leaked: npt.NDArray[np.bool_] = train & np.isin(query_row, rows)
    if leaked.any() and leaked.sum() == train.sum():
        raise InputError(config.source, "training queries that dev and test do not ask", "none", "see dataset.on_leak")
    return leaked


def _active(
    split: npt.NDArray[np.object_],
    query_row: npt.NDArray[np.int32],
    positive: npt.NDArray[np.bool_],
    ids: list[str],
    config: DatasetConfig,
) -> npt.NDArray[np.bool_]:
    """Return which labels belong to the queries of each split that are used: at most `limit`, `train_limit` of train."""
    active = np.ones(len(split), np.bool_)
    for name in set(split):
        limits = [limit for limit in (config.limit, config.train_limit if name == TRAIN else None) if limit is not None]
        if limits:
            inside = split == name
            chosen = first_by_hash(np.unique(query_row[inside & positive]), ids, min(limits))
            active[inside] = np.isin(query_row[inside], chosen)
    return active


def _hidden(
    split: npt.NDArray[np.object_],
    labels: dict[str, Any],
    positive: npt.NDArray[np.bool_],
    ids: list[str],
    config: DatasetConfig,
) -> npt.NDArray[np.bool_]:
    """Return which labels are hidden: the positives of queries of the split `train` beyond `known_positives`."""
    hidden = np.zeros(len(split), np.bool_)
    if config.known_positives is not None:
        train = np.flatnonzero((split == TRAIN) & positive)
        train = train[np.lexsort((labels["doc_row"][train], labels["query_row"][train]))]
        kept = kept_labels(labels["query_row"][train], ids, config.known_positives, config.hiding_seed)
        hidden[train[~kept]] = True
    return hidden


def _split_counts(labels: dict[str, Any], positive: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_]) -> dict[str, int]:
    with_positive = len(np.unique(labels["query_row"][inside & positive]))
    return {
        "queries": with_positive,
        "positives": int((inside & positive).sum()),
        "judged_negatives": int((inside & ~positive).sum()),
        "queries_without_positives": len(np.unique(labels["query_row"][inside])) - with_positive,
    }


def _write_qrels(path: Path, columns: list[npt.NDArray[Any]]) -> str:
    names, codes = np.unique(columns[0].astype(str), return_inverse=True)
    split = pa.DictionaryArray.from_arrays(codes.astype(np.int32), pa.array(names.tolist(), pa.string()))
    arrays = [split, *(pa.array(column, field.type) for column, field in zip(columns[1:], list(QRELS)[1:], strict=True))]
    with write_aside(path) as aside:
        pq.write_table(pa.Table.from_arrays(arrays, schema=QRELS), aside, compression="zstd")
    digest = hashlib.sha256(json.dumps(names.tolist()).encode() + codes.astype(np.int32).tobytes())
    for column in columns[1:]:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
