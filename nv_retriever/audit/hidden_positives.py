"""False negatives measured: hide all but one positive of a query, mine, count how many hidden ones come back as negatives.

Every rule is read off the same ranked candidates by the miner's own code, so a sweep searches nothing again. A sample that
the candidate table leaves short is mined in the whole corpus where a scorer is at hand, and reported as unproven
where none is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nv_retriever.audit.samples import BoolArray, Labelled, Ranked, Samples, blocks, rank
from nv_retriever.mining.deepening import deepen
from nv_retriever.mining.pool import count_prefix, read_pool
from nv_retriever.mining.randomness import IdKeys, Keys, mix
from nv_retriever.mining.rules.base import Rule
from nv_retriever.mining.selection import Selection
from nv_retriever.mining.types import Pool
from nv_retriever.search.types import Exclusions, FloatArray, IntArray, ScoreKind, Scorer, TopK

Counts = npt.NDArray[np.float64]
WINDOW = 50
"""Candidates over which the drop rate is taken, as in the published comparisons of teachers."""
_NO_FLOOR, _NO_VETO = np.float32(-np.inf), np.empty(0, np.int64)


@dataclass(frozen=True)
class Table:
    """What one teacher's stored candidates say; rows are the split's queries."""

    documents: IntArray
    """(n_queries, depth) by rank, -1 padded."""
    scores: FloatArray
    """(n_queries, depth), NaN padded."""
    exhausted: BoolArray
    """(n_queries,): the row holds every allowed document of the corpus."""
    exclusions: Exclusions
    """All documents that are excluded from each row."""
    n_documents: int


@dataclass(frozen=True)
class Tally:
    """What mining with one rule gave, one row per query that has samples."""

    samples: Counts
    covered: Counts
    """Samples with all wanted negatives."""
    unproven: Counts
    """Samples for which the table ended too early to say."""
    negatives: Counts
    false: Counts
    """Negatives that are hidden positives or their duplicates."""
    gaps: Counts
    """Sum over the negatives of positive score - negative score."""
    ranks: Counts
    """Sum over the negatives of their rank."""
    dropped: Counts
    """Candidates among the first 50 that the rule rejects."""
    seen: Counts
    """Candidates among the first 50."""


@dataclass(frozen=True)
class Draw:
    """How negatives are taken from the survivors, and the ids' keys that a random draw depends on."""

    selection: Selection
    seed: int
    keys: IdKeys


class _SampleScorer:
    """A scorer whose rows are samples: deeper searches leave out what is known when one positive is."""

    def __init__(self, scorer: Scorer, samples: Samples) -> None:
        self._scorer, self._queries = scorer, samples.queries
        self.score_kind: ScoreKind = scorer.score_kind
        self.n_queries, self.n_documents = len(samples), scorer.n_documents

    def search(
        self, query_rows: npt.NDArray[np.integer], k: int, excluded: Exclusions, limits: FloatArray | None = None
    ) -> TopK:
        return self._scorer.search(self._queries[query_rows], k, excluded, limits)

    def score_pairs(self, query_rows: npt.NDArray[np.integer], document_rows: npt.NDArray[np.integer]) -> FloatArray:
        return self._scorer.score_pairs(self._queries[query_rows], document_rows)


def sweep(
    samples: Samples, labelled: Labelled, table: Table, rules: Sequence[Rule], draw: Draw, scorer: Scorer | None = None
) -> list[Tally]:
    """Mine the samples with each rule and return what came back, in the order of `rules`.

    `labelled` are the documents whose labels are hidden unless they are the sample's own. Without `scorer`, samples that
    the table leaves short count with the negatives that it proves (none where the selection draws).
    """
    limits = [rule.limits(samples.scores) for rule in rules]
    columns = np.zeros((len(rules), len(samples), 9))
    width = table.documents.shape[1] + int(np.diff(labelled.offsets).max(initial=0))
    for part in blocks(len(samples), width):
        some = samples.take(part)
        ranked = rank(some, labelled, table.documents, table.scores, table.exhausted)
        for number, rule in enumerate(rules):
            pool = _read(ranked, rule, limits[number][part], draw.selection.depth, table.n_documents)
            short = np.flatnonzero((pool.documents[:, -1] < 0) & ~ranked.exhausted)
            if scorer is not None and len(short):
                pool.put(short, _search(scorer, some.take(short), labelled, table, rule, limits[number][part][short], draw))
                short = short[:0]
            columns[number, part] = _tally(pool, short, some, labelled, draw, table.n_documents)
            columns[number, part, 7:] = _dropped(ranked, rule, limits[number][part])
    return [_by_query(samples.queries, columns[number]) for number in range(len(rules))]


def is_hidden(samples: Samples, labelled: Labelled, documents: IntArray, n_documents: int) -> BoolArray:
    """Return which documents (n_samples, m) are positives that the sample hides, or their duplicates; -1 is not.

    A document without a finite score is no candidate whatever its label.
    """
    known = labelled.queries.astype(np.int64) * n_documents + labelled.documents
    if not len(known):
        return np.zeros(documents.shape, bool)
    keys = samples.queries.astype(np.int64)[:, None] * n_documents + documents
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    hidden: BoolArray = (known[at] == keys) & (documents >= 0) & (labelled.groups[at] != samples.groups[:, None])
    return hidden & np.isfinite(labelled.scores[at])


def _read(ranked: Ranked, rule: Rule, limits: FloatArray, size: int, n_documents: int) -> Pool:
    return read_pool(
        ranked.documents,
        ranked.scores,
        np.arange(len(limits), dtype=np.int32),
        limits,
        size=size,
        min_rank=rule.min_rank,
        floor=_NO_FLOOR,
        vetoed=_NO_VETO,
        n_documents=n_documents,
    )


def _search(
    scorer: Scorer,
    samples: Samples,
    labelled: Labelled,
    table: Table,
    rule: Rule,
    limits: FloatArray,
    draw: Draw,
) -> Pool:
    return deepen(
        _SampleScorer(scorer, samples),
        _known_only(samples, labelled, table),
        np.arange(len(samples), dtype=np.int32),
        limits,
        size=draw.selection.depth,
        min_rank=rule.min_rank,
        floor=_NO_FLOOR,
        vetoed=_NO_VETO,
        table_depth=table.documents.shape[1],
    )


def _known_only(samples: Samples, labelled: Labelled, table: Table) -> Exclusions:
    """Return the exclusions of each sample when its hidden positives are not known."""
    taken = table.exclusions.take(samples.queries)
    lengths = np.diff(taken.offsets)
    owner = np.repeat(np.arange(len(samples)), lengths)
    one = samples.take(owner)
    keep = ~is_hidden(one, labelled, taken.documents[:, None], table.n_documents)[:, 0]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner[keep], minlength=len(samples)))]).astype(np.int64)
    return Exclusions(offsets, taken.documents[keep], taken.reasons[keep])


def _tally(
    pool: Pool,
    unproven: npt.NDArray[np.intp],
    samples: Samples,
    labelled: Labelled,
    draw: Draw,
    n_documents: int,
) -> Counts:
    """Return the columns of a Tally up to `ranks`, (n_samples, 9)."""
    documents, scores, ranks = pool.documents, pool.scores, pool.ranks
    if draw.selection.window is not None:
        documents = documents.copy()
        documents[unproven] = -1

    def randoms() -> Keys:
        keys = draw.keys.documents[np.maximum(documents, 0)]
        return mix(draw.seed, draw.keys.queries[samples.queries][:, None], keys)

    order = draw.selection.order(np.where(documents >= 0, scores, np.float32(np.nan)), randoms)
    if order is not None:
        documents = np.take_along_axis(documents, order, axis=1)
        scores, ranks = np.take_along_axis(scores, order, axis=1), np.take_along_axis(ranks, order, axis=1)
    taken = slice(draw.selection.count)
    documents, scores, ranks = documents[:, taken], scores[:, taken], ranks[:, taken]
    there = documents >= 0
    out = np.zeros((len(samples), 9))
    out[:, 0] = 1
    out[:, 1] = there[:, -1]
    out[unproven, 2] = 1
    out[:, 3] = there.sum(axis=1)
    out[:, 4] = is_hidden(samples, labelled, documents, n_documents).sum(axis=1)
    gaps = samples.scores[:, None].astype(np.float64) - scores
    out[:, 5] = np.where(there, gaps, 0).sum(axis=1)
    out[:, 6] = np.where(there, ranks, 0).sum(axis=1)
    return out


def _dropped(ranked: Ranked, rule: Rule, limits: FloatArray) -> Counts:
    """Return how many of each sample's first candidates the rule rejects, and how many there are, (n_samples, 2)."""
    first = ranked.scores[:, :WINDOW]
    rows = np.arange(len(limits))
    seen = np.isfinite(first).sum(axis=1)
    rejected = np.maximum(count_prefix(np.ascontiguousarray(first), rows, limits), rule.min_rank - 1)
    return np.stack([np.minimum(rejected, seen), seen], axis=1).astype(np.float64)


def _by_query(queries: IntArray, columns: Counts) -> Tally:
    starts = np.flatnonzero(np.diff(queries, prepend=-1))
    sums = np.add.reduceat(columns, starts, axis=0) if len(starts) else columns[:0]
    return Tally(*sums.T)
