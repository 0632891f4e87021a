"""Ingestion: any source becomes one canonical data set on disk, checked, sorted by id, with content hashes."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.data.canonical import Canonical
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.labels import Labels, Mask, assign_labels, find_active, find_hidden, find_leaked
from nv_retriever.data.open import empty_policy, open_source
from nv_retriever.data.records import Problems, Source
from nv_retriever.data.splits import split_order
from nv_retriever.data.staging import Staging
from nv_retriever.data.text import TextView
from nv_retriever.errors import InputError
from nv_retriever.files import write_aside, write_json

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
    sizes = {"documents": canonical.load("documents", "view_hash"), "queries": canonical.load("queries", "text_hash")}
    for kind, count in sizes.items():
        if not count:
            raise InputError(config.source, f"at least one of its {kind}", "none")
    counts |= canonical.load_labels(config.on_unknown)
    digests = [canonical.write_corpus(folder / "corpus.parquet"), canonical.write_queries(folder / "queries.parquet")]
    ids, content = canonical.query_column("id"), canonical.query_column("content")
    labels = assign_labels(canonical.labels(), content, config)
    leaked = find_leaked(labels, content, config)
    counts["train_queries_of_dev_or_test"] = labels.queries(leaked)
    active = find_active(labels, leaked, ids, config)
    hidden = find_hidden(labels, ids, config)
    digests.append(_write_qrels(folder / "qrels.parquet", labels, active, ~hidden))
    if config.known_positives is not None:
        digests.append(_write_qrels(folder / "hidden.parquet", labels, active, hidden))
    active &= ~hidden
    names = sorted(set(labels.split[labels.positive & active]), key=split_order)
    return {
        "name": source.name,
        "source": config.source,
        **sizes,
        "splits": {name: _split_counts(labels, active & (labels.split == name)) for name in names},
        "queries_without_labels": sizes["queries"] - len(np.unique(labels.query_rows)),
        "template": config.document_template,
        "min_grade": config.min_grade,
        "limit": config.limit,
        "train_limit": config.train_limit,
        "known_positives": config.known_positives,
        "hidden": int(hidden.sum()),
        "skipped": {name: count for name, count in sorted(counts.items()) if count},
        "digest": hashlib.sha256(json.dumps([digests, config.document_template, config.min_grade]).encode()).hexdigest(),
    }


def _split_counts(labels: Labels, inside: Mask) -> dict[str, int]:
    with_positive = labels.queries(inside & labels.positive)
    return {
        "queries": with_positive,
        "positives": int((inside & labels.positive).sum()),
        "judged_negatives": int((inside & ~labels.positive).sum()),
        "queries_without_positives": labels.queries(inside) - with_positive,
    }


def _write_qrels(path: Path, labels: Labels, active: Mask, chosen: Mask) -> str:
    """Write the chosen labels, and return the digest of their content."""
    names, codes = np.unique(labels.split[chosen].astype(str), return_inverse=True)
    split = pa.DictionaryArray.from_arrays(codes.astype(np.int32), pa.array(names.tolist(), pa.string()))
    columns = [column[chosen] for column in (labels.query_rows, labels.document_rows, labels.grades, active)]
    arrays = [split, *(pa.array(column, field.type) for column, field in zip(columns, list(QRELS)[1:], strict=True))]
    with write_aside(path) as aside:
        pq.write_table(pa.Table.from_arrays(arrays, schema=QRELS), aside, compression="zstd")
    digest = hashlib.sha256(json.dumps(names.tolist()).encode() + codes.astype(np.int32).tobytes())
    for column in columns:
        digest.update(column.tobytes())
    return digest.hexdigest()
