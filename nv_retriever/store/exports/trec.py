"""A TREC run of the negatives: `query Q0 document rank score tag`, for ir_measures, trec_eval and the like.

A run has a document once a query, and ids without white space. Scores are the teacher's; where several teachers scored a
query, they are 1 / rank (0 for random fillers), as scores of different teachers do not compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from nv_retriever.store.exports.format import Format, Written
from nv_retriever.store.exports.source import Negative, Sample, Source


def write(source: Source, folder: Path) -> Written:
    """Write run.trec: per query its distinct negatives by descending score, ties by id."""
    written = Written()
    tag = f"nv-retriever-{source.artifact.run_id}"
    with (folder / "run.trec").open("w", encoding="utf-8") as file:
        for query_id, samples in groupby(source.samples(), key=lambda sample: sample.query_id):
            negatives = list(_representable(query_id, samples, written))
            for rank, (document, score) in enumerate(_ranking(negatives, written), 1):
                file.write(f"{query_id} Q0 {document} {rank} {score!r} {tag}\n")
                written.rows += 1
    return written


def _representable(query_id: str, samples: Iterator[Sample], written: Written) -> Iterator[Negative]:
    for sample in samples:
        for negative in sample.negatives:
            if _has_space(query_id) or _has_space(negative.id):
                written.lost["triples whose query or document id has white space"] += 1
            elif negative.score is None:
                written.lost["triples without a finite score"] += 1
            else:
                yield negative


def _has_space(text: str) -> bool:
    return text.split() != [text]


def _reciprocal(rank: int | None) -> float:
    return 1.0 / rank if rank else 0.0


def _ranking(negatives: list[Negative], written: Written) -> list[tuple[str, float]]:
    one_kind = len({(negative.teacher, negative.score_kind) for negative in negatives}) <= 1
    best: dict[str, float] = {}
    for negative in negatives:
        score = (negative.score or 0.0) if one_kind else _reciprocal(negative.rank)
        best[negative.id] = max(score, best.get(negative.id, score))
    if len(negatives) > len(best):
        written.lost["triples that repeat a document of the same query"] += len(negatives) - len(best)
    return sorted(best.items(), key=lambda item: (-item[1], item[0]))


FORMAT = Format(
    name="trec",
    main="run.trec",
    write=write,
    usage='`ir_measures.read_trec_run("{path}/run.trec")`, or `trec_eval QRELS {path}/run.trec`.',
    alone=(".trec", ".run", ".txt"),
)
