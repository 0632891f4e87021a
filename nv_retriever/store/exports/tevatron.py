"""Tevatron's training data: JSON lines of query_id, query, positive_passages, negative_passages.

Its loader (src/tevatron/retriever/dataset.py, TrainDataset) draws with replacement where a line has too few negatives and
fails on a line that has none; it joins title and text, so that passages here have the data set's one text view and no title.
"""

from __future__ import annotations

from pathlib import Path

from nv_retriever.store.exports.format import Format, Written, json_line
from nv_retriever.store.exports.source import Source


def write(source: Source, folder: Path) -> Written:
    """Write train.jsonl, a line a sample; scores, teacher, rank are extra keys of a passage, which the loader ignores."""
    written = Written()
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        for sample in source.samples():
            line = {
                "query_id": sample.query_id,
                "query": sample.query,
                "positive_passages": [{"docid": sample.positive_id, "text": sample.positive}],
                "negative_passages": [
                    {
                        "docid": negative.id,
                        "text": negative.text,
                        "score": negative.score,
                        "positive_score": negative.positive_score,
                        "score_kind": negative.score_kind,
                        "teacher": negative.teacher,
                        "rank": negative.rank,
                    }
                    for negative in sample.negatives
                ],
            }
            file.write(json_line(line))
            written.rows += 1
    return written


FORMAT = Format(
    name="tevatron",
    main="train.jsonl",
    write=write,
    usage="`--dataset_name json --dataset_path {path}/train.jsonl` of `tevatron.retriever.driver.train`.",
    alone=(".jsonl",),
)
