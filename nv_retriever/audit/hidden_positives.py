"""False negatives measured: hide all but one positive of a query, mine, count how many hidden ones come back as negatives.

Every rule is read off the same ranked candidates by the miner's own code, so a sweep searches nothing again. A sample that
the candidate table leaves short is mined in the whole corpus where a scorer is at hand, and reported as unproven
where none is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nv_retriever.audit.samples import BoolArray, Labelled, Samples, blocks, rank
from nv_retriever.audit.tallies import (
    COLUMNS,
    DROPPED,
    Counts,
    Draw,
    Tally,
    by_query,
    dropped_columns,
    is_hidden,
    tally_columns,
)
from nv_retriever.mining.deepening import deepen
from nv_retriever.mining.pool import read_pool
from nv_retriever.mining.rules.base import Rule
from nv_retriever.mining.types import Wanted
from nv_retriever.search.types import Exclusions, FloatArray, IntArray, ScoreKind, Scorer, TopK

DEEPER = 32
"""A deeper table has as many times the candidates: searched once for all rules before samples are searched one by one."""


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
    anchors: FloatArray
    """(n_positives,) of all samples of the run, of which an audit may look at some: one rule asks for their distribution."""

    def limits(self, rule: Rule, samples: Samples) -> FloatArray:
        """Return the limits that samples have in the run, (s,)."""
        anchors = np.sort(self.anchors)
        at = np.minimum(np.searchsorted(anchors, samples.scores), max(len(anchors) - 1, 0))
        found: FloatArray = rule.limits(anchors)[at]
        return found


class _RowScorer:
    """A scorer whose rows are some of another one's, in any order and with repeats: queries of a block, or samples."""

    def __init__(self, scorer: Scorer, queries: IntArray) -> None:
        self._scorer, self._queries = scorer, queries
        self.score_kind: ScoreKind = scorer.score_kind
        self.n_queries, self.n_documents = len(queries), scorer.n_documents

    def search(
        self, query_rows: npt.NDArray[np.integer], k: int, excluded: Exclusions, limits: FloatArray | None = None
    ) -> TopK:
        """Search for some of the rows."""
        return self._scorer.search(self._queries[query_rows], k, excluded, limits)

    def score_pairs(self, query_rows: npt.NDArray[np.integer], document_rows: npt.NDArray[np.integer]) -> FloatArray:
        """Return the scores of pairs of some of the rows."""
        return self._scorer.score_pairs(self._queries[query_rows], document_rows)


def sweep(
    samples: Samples, labelled: Labelled, table: Table, rules: Sequence[Rule], draw: Draw, scorer: Scorer | None = None
) -> list[Tally]:
    """Mine the samples with each rule and return what came back, in the order of `rules`.

    `labelled` are the documents whose labels are hidden unless they are the sample's own. Without `scorer`, samples that
    the table leaves short count with the negatives that it proves (none where the selection draws).
    """
    limits = np.array([table.limits(rule, samples) for rule in rules], np.float32).reshape(len(rules), len(samples))
    columns, short = _sweep_table(samples, labelled, table, rules, limits, draw)
    if scorer is not None:
        again = np.flatnonzero(short.any(axis=0))
        for queries in _query_blocks(samples.queries[again], table):
            rows = again[np.isin(samples.queries[again], queries)]
            columns[:, rows, :DROPPED] = _sweep_deeper(
                samples.take(rows), labelled, table, rules, limits[:, rows], draw, scorer, queries
            )
    return [by_query(samples.queries, columns[number]) for number in range(len(rules))]


def _sweep_table(
    samples: Samples,
    labelled: Labelled,
    table: Table,
    rules: Sequence[Rule],
    limits: FloatArray,
    draw: Draw,
    scorer: Scorer | None = None,
) -> tuple[Counts, BoolArray]:
    """Return the columns of the tallies, (n_rules, n_samples, COLUMNS), and who is short, (n_rules, n_samples)."""
    columns = np.zeros((len(rules), len(samples), COLUMNS))
    left = np.zeros((len(rules), len(samples)), bool)
    width = table.documents.shape[1] + int(np.diff(labelled.offsets).max(initial=0))
    for part in blocks(len(samples), width):
        some = samples.take(part)
        ranked = rank(some, labelled, table.documents, table.scores, table.exhausted)
        for number, rule in enumerate(rules):
            below = limits[number, part]
            wanted = Wanted(draw.selection.depth, table.n_documents, rule.min_rank)
            pool = read_pool(ranked.documents, ranked.scores, np.arange(len(some), dtype=np.int32), below, wanted)
            short = np.flatnonzero((pool.documents[:, -1] < 0) & ~ranked.exhausted)
            if scorer is not None and len(short):
                left_short = some.take(short)
                known = _known_only(left_short, labelled, table)
                each, of_samples = np.arange(len(short), dtype=np.int32), _RowScorer(scorer, left_short.queries)
                pool.put(short, deepen(of_samples, known, each, below[short], wanted, table.documents.shape[1]))
                short = short[:0]
            left[number, part.start + short] = True
            columns[number, part] = tally_columns(pool, short, some, labelled, draw, table.n_documents)
            columns[number, part, DROPPED:] = dropped_columns(ranked, rule, below)
    return columns, left


def _query_blocks(queries: IntArray, table: Table) -> Iterator[IntArray]:
    """Yield different queries, as many as a deeper table in bounded memory holds."""
    unique = np.unique(queries)
    for part in blocks(len(unique), DEEPER * max(table.documents.shape[1], 1), cells=1 << 23):
        yield unique[part]


def _sweep_deeper(
    samples: Samples,
    labelled: Labelled,
    table: Table,
    rules: Sequence[Rule],
    limits: FloatArray,
    draw: Draw,
    scorer: Scorer,
    queries: IntArray,
) -> Counts:
    """Return the tallies' columns of samples of a few queries, from a deeper table, searched once for all rules.

    What even that leaves short is searched below its own limit.
    """
    depth = min(DEEPER * max(table.documents.shape[1], 1), table.n_documents)
    excluded = table.exclusions.take(queries)
    found = scorer.search(queries, depth, excluded)
    allowed = table.n_documents - np.diff(excluded.offsets)
    ended = (found.documents[:, -1] < 0) | (allowed <= depth) if depth else np.ones(len(queries), bool)
    place = np.searchsorted(queries, samples.queries).astype(np.int32)
    local = Samples(place, samples.documents, samples.groups, samples.scores)
    deeper = replace(table, documents=found.documents, scores=found.scores, exhausted=ended, exclusions=excluded)
    of_queries = replace(draw, query_rows=queries)
    rows = _RowScorer(scorer, queries)
    columns, _ = _sweep_table(local, labelled.take(queries), deeper, rules, limits, of_queries, rows)
    return columns[:, :, :DROPPED]


def _known_only(samples: Samples, labelled: Labelled, table: Table) -> Exclusions:
    """Return the exclusions of each sample when its hidden positives are not known."""
    taken = table.exclusions.take(samples.queries)
    lengths = np.diff(taken.offsets)
    owner = np.repeat(np.arange(len(samples)), lengths)
    one = samples.take(owner)
    keep = ~is_hidden(one, labelled, taken.documents[:, None], table.n_documents)[:, 0]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner[keep], minlength=len(samples)))]).astype(np.int64)
    return Exclusions(offsets, taken.documents[keep], taken.reasons[keep])
