"""sentence-transformers labelled lists: (anchor, passages, labels) a row, for listwise losses of cross-encoders."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from nv_retriever.store.exports.format import ParquetRows, Written, format_with_ids
from nv_retriever.store.exports.source import Source

TRAIN = pa.schema([("anchor", pa.string()), ("passages", pa.list_(pa.string())), ("labels", pa.list_(pa.int64()))])
IDS = pa.schema(
    [
        ("query_id", pa.string()),
        ("document_ids", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
        ("score_kinds", pa.list_(pa.string())),
        ("teachers", pa.list_(pa.string())),
        ("ranks", pa.list_(pa.int64())),
        ("limit_scores", pa.list_(pa.float32())),
        ("reasons", pa.list_(pa.string())),
    ]
)


def write(source: Source, folder: Path) -> Written:
    """Write train.parquet (a row a sample, the positive first) and ids.parquet with the same lists of ids and scores."""
    written = Written()
    with ParquetRows(folder / "train.parquet", TRAIN) as train, ParquetRows(folder / "ids.parquet", IDS) as ids:
        for sample in source.samples():
            negatives, score = sample.negatives, sample.positive_score
            passages = [sample.positive, *(negative.text for negative in negatives)]
            train.append({"anchor": sample.query, "passages": passages, "labels": [1] + [0] * len(negatives)})
            ids.append(
                {
                    "query_id": sample.query_id,
                    "document_ids": [sample.positive_id, *(negative.id for negative in negatives)],
                    "scores": [score, *(negative.score for negative in negatives)],
                    "score_kinds": [None if score is None else negatives[0].score_kind, *(n.score_kind for n in negatives)],
                    "teachers": [None, *(negative.teacher for negative in negatives)],
                    "ranks": [None, *(negative.rank for negative in negatives)],
                    "limit_scores": [None, *(negative.limit_score for negative in negatives)],
                    "reasons": [None, *(negative.reason for negative in negatives)],
                }
            )
            written.rows += 1
    return written


FORMAT = format_with_ids("labeled-list", write, "`CrossEncoderTrainer` (LambdaLoss, …)")
