"""How several teachers share a sample's negatives (paper, section 3.2). Scores of two teachers are never compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nv_retriever.mining.randomness import Keys, mix, uniform
from nv_retriever.mining.types import BoolArray, Choice, MiningPlan, Pool, ShortReason, TripleReason
from nv_retriever.search.types import IntArray

ENSEMBLES = ("none", "cross-sample", "intra-sample", "intra-sample-dedup")
_DRAW = np.array([0x7EAC4E5], np.uint64)
"""Separates the draw of the teacher from the draw of negatives."""


def serving_teachers(usable: BoolArray, ensemble: str, seed: int, queries: Keys | None, positives: Keys | None) -> BoolArray:
    """Return which teachers serve which samples, (T, s) -> (T, s).

    Cross-sample draws one of the teachers that have a score for the positive, by hash of (seed, query id, positive id).
    """
    if ensemble != "cross-sample":
        return usable
    assert queries is not None and positives is not None
    number = usable.sum(axis=0)
    drawn = np.floor(uniform(mix(seed, queries, positives, _DRAW)) * number).astype(np.int64)
    served: BoolArray = usable & (np.cumsum(usable, axis=0) - 1 == drawn)
    return served


def empty_choice(n: int, count: int) -> Choice:
    """Return a choice without negatives."""
    return Choice(
        documents=np.full((n, count), -1, np.int32),
        scores=np.full((n, count), np.nan, np.float32),
        ranks=np.zeros((n, count), np.int64),
        teachers=np.full((n, count), -1, np.int16),
        reasons=np.zeros((n, count), np.uint8),
        short=np.full(n, ShortReason.NONE, np.uint8),
        found=np.zeros(n, np.int32),
        depth=np.zeros(n, np.int64),
    )


def choose(pools: Sequence[Pool], served: BoolArray, plan: MiningPlan) -> Choice:
    """Return each sample's negatives from its teachers' survivors, which are in the order of preference.

    `pools` one per teacher over the same s samples, `served` (T, s). Without an ensemble and cross-sample, the sample's
    one teacher gives all. Intra-sample: the teachers take turns, each giving its next survivor; with dedup, the next
    that the sample does not have; one without a further survivor loses its turn. Four teachers, four negatives: the
    paper's top-1 of each.
    """
    choice = empty_choice(served.shape[1], plan.selection.count)
    if plan.ensemble.startswith("intra"):
        _take_turns(choice, pools, served, dedup=plan.ensemble.endswith("dedup"))
    else:
        for teacher, pool in enumerate(pools):
            rows = np.flatnonzero(served[teacher])
            for name in ("documents", "scores", "ranks"):
                getattr(choice, name)[rows] = getattr(pool, name)[rows, : plan.selection.count]
            choice.teachers[rows] = np.where(choice.documents[rows] >= 0, teacher, -1)
            deep = choice.ranks[rows] > pool.table_depth[rows, None]
            choice.reasons[rows] = np.where(deep, TripleReason.DEEPENED, TripleReason.KEPT)
    choice.found[:] = (choice.documents >= 0).sum(axis=1)
    _say_why_short(choice, pools, served)
    return choice


def _take_turns(choice: Choice, pools: Sequence[Pool], served: BoolArray, dedup: bool) -> None:
    """Fill the choice in turns; a pointer a teacher and sample says which of its survivors comes next."""
    count = choice.documents.shape[1]
    size = pools[0].documents.shape[1]
    filled = np.zeros(served.shape[1], np.intp)
    pointers = np.zeros(served.shape, np.intp)
    for turn in range(len(pools) * size):
        teacher = turn % len(pools)
        rows = np.flatnonzero(served[teacher] & (filled < count))
        if not len(rows):
            continue
        pool, pointer = pools[teacher], pointers[teacher]
        if dedup:
            _skip_repeats(pool.documents, pointer, rows, choice.documents)
        inside = pointer[rows] < size
        rows = rows[inside]
        rows = rows[pool.documents[rows, pointer[rows]] >= 0]
        at, position = pointer[rows], filled[rows]
        for name in ("documents", "scores", "ranks"):
            getattr(choice, name)[rows, position] = getattr(pool, name)[rows, at]
        deep = pool.ranks[rows, at] > pool.table_depth[rows]
        choice.reasons[rows, position] = np.where(deep, TripleReason.DEEPENED, TripleReason.KEPT)
        choice.teachers[rows, position] = teacher
        filled[rows] += 1
        pointer[rows] += 1


def _skip_repeats(documents: IntArray, pointer: npt.NDArray[np.intp], rows: npt.NDArray[np.intp], taken: IntArray) -> None:
    """Move the pointers past documents that their samples already have."""
    size = documents.shape[1]
    while len(rows):
        rows = rows[pointer[rows] < size]
        document = documents[rows, pointer[rows]]
        rows = rows[(document >= 0) & (taken[rows] == document[:, None]).any(axis=1)]
        pointer[rows] += 1


def _say_why_short(choice: Choice, pools: Sequence[Pool], served: BoolArray) -> None:
    """Set `short` and `depth` of the choice."""
    short = choice.found < choice.documents.shape[1]
    ended = np.ones(len(short), bool)
    for teacher, pool in enumerate(pools):
        ended &= pool.exhausted | ~served[teacher]
        choice.depth[:] = np.maximum(choice.depth, np.where(served[teacher], pool.depth, 0))
    choice.short[short] = np.where(ended[short], ShortReason.EXHAUSTED, ShortReason.NOT_SEARCHED)
    choice.short[short & ~served.any(axis=0)] = ShortReason.POSITIVE_NOT_SCORED
