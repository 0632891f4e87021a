"""What happens to a sample for which the corpus has too few candidates below its limit: fewer, relax, random, drop.

Whatever fills a place is allowed (not excluded, not vetoed, not there already), scores below the sample's anchor, and
carries its own reason; without room below the anchor the sample stays short.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nv_retriever.errors import InputError
from nv_retriever.mining.deepening import deepen, search_deeper
from nv_retriever.mining.randomness import IdKeys, mix
from nv_retriever.mining.types import BoolArray, Choice, MiningPlan, Rows, ShortReason, Teacher, TripleReason, Wanted
from nv_retriever.search.types import FloatArray, IntArray, OffsetArray, Scorer

SHORTFALLS = ("fewer", "relax", "random", "drop")
_SPARE = 64
"""Documents that a random filling looks at beyond those that it wants and those that are excluded."""


@dataclass(frozen=True)
class Shortage:
    """Samples that are short, with the teacher that may fill their places."""

    choice: Choice
    """Is filled in place."""
    rows: Rows
    """(n,) the samples' rows of `choice`."""
    samples: Rows
    """(n,) their numbers among all samples."""
    queries: IntArray
    """(n,) their queries."""
    number: int
    """The teacher's."""
    teacher: Teacher
    plan: MiningPlan
    vetoed: OffsetArray
    """As in Wanted."""

    def scorer(self) -> Scorer:
        """Return the teacher's scorer; raises InputError where there is none."""
        if self.teacher.scorer is None:
            expected, found = "a teacher that can search and score", f"only a table of {self.teacher.name}"
            raise InputError(f"shortfall {self.plan.shortfall}", expected, found)
        return self.teacher.scorer()

    def append(self, i: int, reason: TripleReason, documents: IntArray, scores: FloatArray, ranks: OffsetArray) -> None:
        """Put documents into the free places of the i-th sample, those left out that it has."""
        choice, row = self.choice, self.rows[i]
        have = choice.documents[row]
        start = int((have >= 0).sum())
        fresh = np.flatnonzero((documents >= 0) & ~np.isin(documents, have[:start]))[: len(have) - start]
        places = slice(start, start + len(fresh))
        choice.documents[row, places] = documents[fresh]
        choice.scores[row, places] = scores[fresh]
        choice.ranks[row, places] = ranks[fresh]
        choice.teachers[row, places] = self.number
        choice.reasons[row, places] = reason


def relax(shortage: Shortage) -> None:
    """Fill places with documents that fail the rule: first those under the floor, best first (they are only easy), then
    those above the limit, the nearest to it first, never at or above the anchor.
    """
    teacher, plan, queries = shortage.teacher, shortage.plan, shortage.queries
    scorer, exclusions = shortage.scorer(), teacher.exclusions()
    limits, anchors = teacher.limits[shortage.samples], teacher.anchors[shortage.samples]
    wanted = Wanted(plan.selection.count, teacher.n_documents, plan.rule.min_rank, vetoed=shortage.vetoed)
    if plan.min_score is not None:
        floors = np.minimum(np.minimum(limits, anchors), plan.floor).astype(np.float32)
        easy = deepen(scorer, exclusions, queries, floors, wanted)
        for i in range(len(queries)):
            shortage.append(i, TripleReason.RELAXED, easy.documents[i], easy.scores[i], easy.ranks[i])

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
            shortage.append(int(some[i]), TripleReason.RELAXED, *taken)
        return ended

    left = np.flatnonzero(shortage.choice.documents[shortage.rows, -1] < 0)
    search_deeper(left, plan.selection.count + plan.rule.min_rank, scorer.n_documents, nearest)


def fill_randomly(shortage: Shortage, keys: IdKeys) -> None:
    """Fill places with allowed documents in the order of hash(seed, query id, document id), without repeats."""
    teacher, plan = shortage.teacher, shortage.plan
    scorer, exclusions = shortage.scorer(), teacher.exclusions()
    wanted = Wanted(plan.selection.count, teacher.n_documents, vetoed=shortage.vetoed)
    for i, (query, anchor) in enumerate(zip(shortage.queries.tolist(), teacher.anchors[shortage.samples], strict=True)):
        barred = exclusions.documents[exclusions.offsets[query] : exclusions.offsets[query + 1]]
        hashes = mix(plan.seed, keys.queries[query : query + 1], keys.documents)
        size = min(plan.selection.count + len(barred) + _SPARE, teacher.n_documents)
        while shortage.choice.documents[shortage.rows[i], -1] < 0:
            smallest = np.argpartition(hashes, size - 1)[:size]
            drawn: IntArray = smallest[np.argsort(hashes[smallest], kind="stable")].astype(np.int32)
            drawn = drawn[~np.isin(drawn, barred) & ~wanted.is_vetoed(np.array(query), drawn)]
            scores = scorer.score_pairs(np.full(len(drawn), query), drawn)
            fine = np.isfinite(scores) & (scores < anchor)
            shortage.append(i, TripleReason.RANDOM, drawn[fine], scores[fine], np.zeros(int(fine.sum()), np.int64))
            if size >= teacher.n_documents:
                break
            size = min(4 * size, teacher.n_documents)


def reason_text(short: int, policy: str) -> str:
    """Return why a sample is short, as it is stored; `short` is a value of ShortReason."""
    return f"dropped: {ShortReason(short).text}" if policy == "drop" else ShortReason(short).text
