"""sentence-transformers labelled pairs: (anchor, passage, label 1 or 0) a row, for contrastive and binary losses."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from nv_retriever.store.exports.format import ParquetRows, Written, format_with_ids
from nv_retriever.store.exports.source import Source

TRAIN = pa.schema([("anchor", pa.string()), ("passage", pa.string()), ("label", pa.int64())])
IDS = pa.schema(
    [
        ("query_id", pa.string()),
        ("document_id", pa.string()),
        ("label", pa.int64()),
        ("score", pa.float32()),
        ("score_kind", pa.string()),
        ("teacher", pa.string()),
        ("rank", pa.int64()),
        ("limit_score", pa.float32()),
        ("reason", pa.string()),
    ]
)


def write(source: Source, folder: Path) -> Written:
    """Write train.parquet (per sample its positive, then its negatives); ids.parquet: ids and scores of the same rows."""
    written = Written()
    with ParquetRows(folder / "train.parquet", TRAIN) as train, ParquetRows(folder / "ids.parquet", IDS) as ids:
        for sample in source.samples():
            train.append({"anchor": sample.query, "passage": sample.positive, "label": 1})
            score = sample.positive_score
            kind = None if score is None else sample.negatives[0].score_kind
            positive = {"query_id": sample.query_id, "document_id": sample.positive_id, "label": 1}
            ids.append(positive | {"score": score, "score_kind": kind})
            for negative in sample.negatives:
                train.append({"anchor": sample.query, "passage": negative.text, "label": 0})
                ids.append(
                    {
                        "query_id": sample.query_id,
                        "document_id": negative.id,
                        "label": 0,
                        "score": negative.score,
                        "score_kind": negative.score_kind,
                        "teacher": negative.teacher,
                        "rank": negative.rank,
                        "limit_score": negative.limit_score,
                        "reason": negative.reason,
                    }
                )
            written.rows += 1 + len(sample.negatives)
    return written


FORMAT = format_with_ids("labeled-pair", write, "`SentenceTransformerTrainer` or `CrossEncoderTrainer`")
