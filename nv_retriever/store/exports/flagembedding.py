"""FlagEmbedding's fine-tuning data: JSON lines of query, pos, neg and, for distillation, pos_scores and neg_scores.

Its loader (FlagEmbedding 1.4.2, abc/finetune/embedder/AbsDataset.py) divides by the number of negatives, so that a line
without negatives would stop it, and wants a number for every score, so that scores are written for all lines or for none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nv_retriever.store.exports.format import Format, Written, json_line
from nv_retriever.store.exports.source import Sample, Source


def write(source: Source, folder: Path) -> Written:
    """Write train.jsonl, a line a sample; ids in the extra keys query_id, pos_ids, neg_ids, which the loader ignores."""
    counts = source.counts
    written = Written()
    scored = not counts.mixed and not counts.unscored
    if counts.mixed:
        written.notes.append(f"no scores: {counts.mixed} samples mix teachers, whose scores are not comparable")
    elif counts.unscored:
        written.notes.append(f"no scores: {counts.unscored} triples have none, and the loader needs all")
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        for sample in source.samples():
            file.write(json_line(_line(sample, scored)))
            written.rows += 1
    return written


def _line(sample: Sample, scored: bool) -> dict[str, Any]:
    line: dict[str, Any] = {
        "query": sample.query,
        "pos": [sample.positive],
        "neg": [negative.text for negative in sample.negatives],
        "query_id": sample.query_id,
        "pos_ids": [sample.positive_id],
        "neg_ids": [negative.id for negative in sample.negatives],
    }
    if scored:
        line["pos_scores"] = [sample.negatives[0].positive_score]
        line["neg_scores"] = [negative.score for negative in sample.negatives]
    return line


FORMAT = Format(
    name="flagembedding",
    main="train.jsonl",
    write=write,
    usage="`--train_data {path}/train.jsonl` of `torchrun -m FlagEmbedding.finetune.embedder...`; "
    "`--knowledge_distillation True` uses the scores.",
    alone=(".jsonl",),
)
