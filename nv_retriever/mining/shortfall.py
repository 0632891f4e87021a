"""What happens to a sample for which the corpus has too few candidates below its limit: fewer, relax, random, drop.

Whatever fills a place is allowed (not excluded, not vetoed, not there already), scores below the sample's anchor, and
carries its own reason; without room below the anchor the sample stays short.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import InputError
from nv_retriever.mining.deepening import deepen, search_deeper
from nv_retriever.mining.randomness import Keys, mix
from nv_retriever.mining.types import BoolArray, Choice, Plan, Rows, Short, Teacher, Wanted, Why
from nv_retriever.search.types import FloatArray, IntArray, Scorer

SHORTFALLS = ("fewer", "relax", "random", "drop")
_SPARE = 64


def relax(
    choice: Choice,
    rows: Rows,
    number: int,
    teacher: Teacher,
    queries: IntArray,
    samples: Rows,
    plan: Plan,
    vetoed: npt.NDArray[np.int64],
) -> None:
    """Fill places of `rows` with documents that fail the rule: first those under the floor, best first (they are only
    easy), then those above the limit, the nearest to it first, never at or above the anchor.

    `queries` and `samples` (len(rows),) belong to `rows`; `number` is the teacher's.
    """
    scorer = _scorer(teacher, "relax")
    exclusions = teacher.exclusions()
    limits, anchors = teacher.limits[samples], teacher.anchors[samples]
    wanted = Wanted(plan.selection.count, teacher.n_documents, plan.rule.min_rank, vetoed=vetoed)
    if plan.min_score is not None:
        floors = np.minimum(np.minimum(limits, anchors), plan.floor).astype(np.float32)
        easy = deepen(scorer, exclusions, queries, floors, wanted)
        for i, row in enumerate(rows.tolist()):
            _append(choice, row, number, Why.RELAXED, easy.documents[i], easy.scores[i], easy.ranks[i])

    def nearest(some: Rows, k: int) -> BoolArray:
        """Fill places with what fails the rule, once all of it below the anchor is found."""
        found = scorer.search(queries[some], k, exclusions.take(queries[some]), anchors[some])
        ranks = found.above[:, None] + np.arange(1, found.documents.shape[1] + 1)
        fails = (found.scores >= limits[some, None]) | (ranks < plan.rule.min_rank)
        exists = found.documents >= 0
        ended: BoolArray = ~exists[:, -1] | ~fails[:, -1] | (k >= scorer.n_documents)
        fails &= exists & ~wanted.is_vetoed(queries[some, None], found.documents)
        for i in np.flatnonzero(ended).tolist():
            failing = np.flatnonzero(fails[i])
            order = failing[np.lexsort((found.documents[i, failing], found.scores[i, failing]))]
            taken = found.documents[i, order], found.scores[i, order], ranks[i, order]
            _append(choice, int(rows[some[i]]), number, Why.RELAXED, *taken)
        return ended

    left = np.flatnonzero(choice.documents[rows, -1] < 0)
    search_deeper(left, plan.selection.count + plan.rule.min_rank, scorer.n_documents, nearest)


def fill_randomly(
    choice: Choice,
    rows: Rows,
    number: int,
    teacher: Teacher,
    queries: IntArray,
    samples: Rows,
    plan: Plan,
    vetoed: npt.NDArray[np.int64],
    query_keys: Keys,
    document_keys: Keys,
) -> None:
    """Fill places of `rows` with allowed documents in the order of hash(seed, query id, document id), without repeats."""
    scorer = _scorer(teacher, "random")
    exclusions = teacher.exclusions()
    wanted = Wanted(plan.selection.count, teacher.n_documents, vetoed=vetoed)
    for row, query, sample in zip(rows.tolist(), queries.tolist(), samples.tolist(), strict=True):
        barred = exclusions.documents[exclusions.offsets[query] : exclusions.offsets[query + 1]]
        hashes = mix(plan.seed, query_keys[query : query + 1], document_keys)
        size = min(plan.selection.count + len(barred) + _SPARE, teacher.n_documents)
        while choice.documents[row, -1] < 0:
            smallest = np.argpartition(hashes, size - 1)[:size]
            drawn: IntArray = smallest[np.argsort(hashes[smallest], kind="stable")].astype(np.int32)
            drawn = drawn[~np.isin(drawn, barred) & ~wanted.is_vetoed(np.array(query), drawn)]
            scores = scorer.score_pairs(np.full(len(drawn), query), drawn)
            fine = np.isfinite(scores) & (scores < teacher.anchors[sample])
            _append(choice, row, number, Why.RANDOM, drawn[fine], scores[fine], np.zeros(int(fine.sum()), np.int64))
            if size >= teacher.n_documents:
                break
            size = min(4 * size, teacher.n_documents)


def reason_text(short: int, policy: str) -> str:
    """Return why a sample is short, as it is stored; `short` is a value of Short."""
    return f"dropped: {Short(short).text}" if policy == "drop" else Short(short).text


def drop(choice: Choice, rows: Rows) -> None:
    """Take away all negatives of the short samples."""
    choice.documents[rows] = -1


def _scorer(teacher: Teacher, policy: str) -> Scorer:
    if teacher.scorer is None:
        raise InputError(f"shortfall {policy}", "a teacher that can search and score", f"only a table of {teacher.name}")
    return teacher.scorer()


def _append(
    choice: Choice, row: int, teacher: int, why: Why, documents: IntArray, scores: FloatArray, ranks: npt.NDArray[np.int64]
) -> None:
    """Put documents into the free places of one sample, those left out that it has."""
    have = choice.documents[row]
    start = int((have >= 0).sum())
    fresh = np.flatnonzero((documents >= 0) & ~np.isin(documents, have[:start]))[: len(have) - start]
    places = slice(start, start + len(fresh))
    choice.documents[row, places] = documents[fresh]
    choice.scores[row, places] = scores[fresh]
    choice.ranks[row, places] = ranks[fresh]
    choice.teachers[row, places] = teacher
    choice.reasons[row, places] = why
