"""Relabelling: what a judge calls a positive becomes one, with the negatives below it (RLHN, Thakur et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nv_retriever.mining.types import Choice, Rows, Samples, ShortReason, Teacher
from nv_retriever.search.types import FloatArray, IntArray


@dataclass(frozen=True)
class Relabelled:
    """Samples that a judge added, as the miner's own are written: with their negatives and every teacher's scores."""

    samples: Samples
    teachers: Sequence[Teacher]
    choice: Choice


def relabel(
    positives: Mapping[int, Sequence[int]], start: int, choice: Choice, samples: Samples, teachers: Sequence[Teacher]
) -> Relabelled:
    """Return the samples (q, d) for every d that was judged a positive of q while (q, d+) looked for its negatives.

    `positives` maps samples to such documents; `choice` holds the samples from `start` on. The new sample has those of
    the old one's negatives that their teacher scores below d (and thus below the old limit): the rest is as hard to tell
    from d as d was from d+. A pair that two samples found is taken once; one that keeps no negative is written nowhere.
    """
    found: dict[tuple[int, int], int] = {}
    for sample in range(start, start + len(choice.short)):
        for document in positives.get(sample, ()):
            found.setdefault((int(samples.queries[sample]), document), sample)
    pairs = sorted(found)
    queries = np.array([query for query, _ in pairs], np.int32)
    documents = np.array([document for _, document in pairs], np.int32)
    old = np.array([found[pair] for pair in pairs], np.intp)
    scored = [_scored(teacher, queries, documents, old) for teacher in teachers]
    return Relabelled(Samples(queries, documents), scored, _below(choice.take(old - start), scored))


def _scored(teacher: Teacher, queries: IntArray, documents: IntArray, old: Rows) -> Teacher:
    """Return the teacher with its scores of the documents as those of positives; NaN beyond the table without a scorer."""
    scores: FloatArray = np.full(len(queries), np.nan, np.float32)
    row, place = np.nonzero(teacher.documents[queries] == documents[:, None])
    scores[row] = teacher.scores[queries[row], place]
    deeper = np.flatnonzero(np.isnan(scores))
    if len(deeper) and teacher.scorer is not None:
        scores[deeper] = teacher.scorer().score_pairs(queries[deeper], documents[deeper])
    limits = np.where(np.isnan(scores), np.float32(np.nan), teacher.limits[old])
    return replace(teacher, positive_scores=scores, anchors=scores, limits=limits.astype(np.float32))


def _below(choice: Choice, teachers: Sequence[Teacher]) -> Choice:
    """Return the choice with only the negatives that score below their sample's positive, moved to the front."""
    keep = np.zeros(choice.documents.shape, bool)
    for number, teacher in enumerate(teachers):
        below = choice.scores < teacher.positive_scores[:, None]
        keep |= (choice.teachers == number) & below & (choice.documents >= 0)
    order = np.argsort(~keep, axis=1, kind="stable")
    columns = ("documents", "scores", "ranks", "teachers", "reasons")
    moved = {name: np.take_along_axis(getattr(choice, name), order, 1) for name in columns}
    moved["documents"] = np.where(np.take_along_axis(keep, order, 1), moved["documents"], np.int32(-1))
    found = keep.sum(axis=1).astype(np.int32)
    return replace(choice, **moved, found=found, short=np.full_like(choice.short, ShortReason.NONE))
