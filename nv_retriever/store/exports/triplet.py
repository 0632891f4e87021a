"""sentence-transformers triplets: one (anchor, positive, negative) a row, for MultipleNegativesRankingLoss, TripletLoss"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from nv_retriever.store.exports.format import Format, ParquetRows, Written
from nv_retriever.store.exports.source import Source

TRAIN = pa.schema([("anchor", pa.string()), ("positive", pa.string()), ("negative", pa.string())])
IDS = pa.schema(
    [
        ("query_id", pa.string()),
        ("positive_id", pa.string()),
        ("negative_id", pa.string()),
        ("position", pa.int32()),
        ("teacher", pa.string()),
        ("rank", pa.int64()),
        ("positive_score", pa.float32()),
        ("negative_score", pa.float32()),
        ("score_kind", pa.string()),
        ("limit_score", pa.float32()),
        ("reason", pa.string()),
    ]
)


def write(source: Source, folder: Path) -> Written:
    """Write train.parquet (a row a triple) and ids.parquet, row by row the ids and scores of the same triples."""
    written = Written()
    with ParquetRows(folder / "train.parquet", TRAIN) as train, ParquetRows(folder / "ids.parquet", IDS) as ids:
        for sample in source.samples():
            for negative in sample.negatives:
                train.append({"anchor": sample.query, "positive": sample.positive, "negative": negative.text})
                ids.append(
                    {
                        "query_id": sample.query_id,
                        "positive_id": sample.positive_id,
                        "negative_id": negative.id,
                        "position": negative.position,
                        "teacher": negative.teacher,
                        "rank": negative.rank,
                        "positive_score": negative.positive_score,
                        "negative_score": negative.score,
                        "score_kind": negative.score_kind,
                        "limit_score": negative.limit_score,
                        "reason": negative.reason,
                    }
                )
                written.rows += 1
    return written


FORMAT = Format(
    name="triplet",
    main="train.parquet",
    write=write,
    usage='`datasets.load_dataset("{path}", split="train")` is a training set for `SentenceTransformerTrainer`; '
    '`load_dataset("{path}", "ids", split="train")` has the ids and scores of the same rows.',
    parts={"default": "train.parquet", "ids": "ids.parquet"},
)
