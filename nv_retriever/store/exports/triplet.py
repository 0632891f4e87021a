"""sentence-transformers triplets: one (anchor, positive, negative) a row, for MultipleNegativesRankingLoss, TripletLoss."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from nv_retriever.mining.triples import TRIPLES
from nv_retriever.store.exports.format import ParquetRows, Written, format_with_ids
from nv_retriever.store.exports.source import Source

TRAIN = pa.schema([("anchor", pa.string()), ("positive", pa.string()), ("negative", pa.string())])
IDS = pa.schema([column for column in TRIPLES if column.name != "run_id"])


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


FORMAT = format_with_ids("triplet", write, "`SentenceTransformerTrainer`")
