"""sentence-transformers n-tuples: (anchor, positive, negative_1, …, negative_n) a row, for losses with several negatives."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from nv_retriever.store.exports.format import ParquetRows, Written, format_with_ids
from nv_retriever.store.exports.source import Source

IDS = pa.schema(
    [
        ("query_id", pa.string()),
        ("positive_id", pa.string()),
        ("negative_ids", pa.list_(pa.string())),
        ("teachers", pa.list_(pa.string())),
        ("ranks", pa.list_(pa.int64())),
        ("positive_scores", pa.list_(pa.float32())),
        ("negative_scores", pa.list_(pa.float32())),
        ("score_kinds", pa.list_(pa.string())),
        ("limit_scores", pa.list_(pa.float32())),
        ("reasons", pa.list_(pa.string())),
    ]
)


def columns_for(sizes: dict[int, int]) -> int:
    """Return the number of negative columns that keeps most triples, the larger one of equals.

    >>> columns_for({4: 90, 3: 5, 5: 1})
    4
    """
    kept = {n: n * sum(samples for size, samples in sizes.items() if size >= n) for n in sizes}
    return max(kept, key=lambda n: (kept[n], n), default=0)


def write(source: Source, folder: Path) -> Written:
    """Write train.parquet (a row a sample) and ids.parquet, row by row the ids and scores of the same samples."""
    n = columns_for(source.counts.sizes)
    written = Written()
    names = [f"negative_{i}" for i in range(1, n + 1)]
    schema = pa.schema([(name, pa.string()) for name in ("anchor", "positive", *names)])
    with ParquetRows(folder / "train.parquet", schema) as train, ParquetRows(folder / "ids.parquet", IDS) as ids:
        for sample in source.samples():
            kept, found = sample.negatives[:n], len(sample.negatives)
            if found < n:
                written.lost[f"triples of samples with fewer than {n} negatives (format triplet takes them)"] += found
                continue
            if found > n:
                written.lost[f"triples beyond the {n} negatives of a row"] += found - n
            texts = dict(zip(names, (negative.text for negative in kept), strict=True))
            train.append({"anchor": sample.query, "positive": sample.positive, **texts})
            ids.append(
                {
                    "query_id": sample.query_id,
                    "positive_id": sample.positive_id,
                    "negative_ids": [negative.id for negative in kept],
                    "teachers": [negative.teacher for negative in kept],
                    "ranks": [negative.rank for negative in kept],
                    "positive_scores": [negative.positive_score for negative in kept],
                    "negative_scores": [negative.score for negative in kept],
                    "score_kinds": [negative.score_kind for negative in kept],
                    "limit_scores": [negative.limit_score for negative in kept],
                    "reasons": [negative.reason for negative in kept],
                }
            )
            written.rows += 1
    return written


FORMAT = format_with_ids("n-tuple", write, "`SentenceTransformerTrainer`")
