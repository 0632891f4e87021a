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

from nv_retriever.audit.intervals import Counts
from nv_retriever.audit.ranked import Table, blocks, ranked_blocks
from nv_retriever.audit.samples import BoolArray, Labelled, Samples
from nv_retriever.audit.tallies import COLUMNS, DROPPED, Draw, Tally, by_query, dropped_columns, is_hidden, tally_columns
from nv_retriever.mining.deepening import deepen
from nv_retriever.mining.pool import read_pool
from nv_retriever.mining.rules.base import Rule
from nv_retriever.mining.types import Pool, Wanted
from nv_retriever.ragged import row_offsets
from nv_retriever.search.types import Exclusions, FloatArray, IntArray, ScoreKind, Scorer, TopK

DEEPER = 32
"""A deeper table has as many times the candidates: searched once for all rules, before what is short still is searched
below its limits."""


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
    stored = _Sweep(labelled, table, rules, draw)
    columns, short = stored.mine(samples, limits)
    if scorer is not None:
        again = np.flatnonzero(short.any(axis=0))
        for queries in _query_blocks(samples.queries[again], table):
            rows = again[np.isin(samples.queries[again], queries)]
            some = samples.take(rows)
            local = replace(some, queries=np.searchsorted(queries, some.queries).astype(np.int32))
            found, _ = stored.deeper(queries, scorer).mine(local, limits[:, rows])
            columns[:, rows, :DROPPED] = found[:, :, :DROPPED]
    return [by_query(samples.queries, columns[number]) for number in range(len(rules))]


def _query_blocks(queries: IntArray, table: Table) -> Iterator[IntArray]:
    """Yield different queries, as many as a deeper table in bounded memory holds."""
    unique = np.unique(queries)
    for part in blocks(len(unique), DEEPER * max(table.documents.shape[1], 1), cells=1 << 23):
        yield unique[part]


@dataclass(frozen=True)
class _Sweep:
    """What several rules mine from one table; with a scorer also from below it."""

    labelled: Labelled
    table: Table
    rules: Sequence[Rule]
    draw: Draw
    scorer: Scorer | None = None

    def deeper(self, queries: IntArray, scorer: Scorer) -> _Sweep:
        """Return the sweep of some queries, which become 0, 1, …, over a deeper table, searched once for all rules.

        What even that leaves short is searched below its own limit.
        """
        table = self.table
        depth = min(DEEPER * max(table.documents.shape[1], 1), table.n_documents)
        excluded = table.exclusions.take(queries)
        found = scorer.search(queries, depth, excluded)
        allowed = table.n_documents - np.diff(excluded.offsets)
        ended = (found.documents[:, -1] < 0) | (allowed <= depth) if depth else np.ones(len(queries), bool)
        deep = replace(table, documents=found.documents, scores=found.scores, exhausted=ended, exclusions=excluded)
        draw = replace(self.draw, query_rows=queries)
        return _Sweep(self.labelled.take(queries), deep, self.rules, draw, _RowScorer(scorer, queries))

    def mine(self, samples: Samples, limits: FloatArray) -> tuple[Counts, BoolArray]:
        """Return the columns of the tallies, (n_rules, n_samples, COLUMNS), and who is short, (n_rules, n_samples).

        `limits` are (n_rules, n_samples).
        """
        columns = np.zeros((len(self.rules), len(samples), COLUMNS))
        left = np.zeros((len(self.rules), len(samples)), bool)
        for part, some, ranked in ranked_blocks(samples, self.labelled, self.table):
            rows = np.arange(len(some), dtype=np.int32)
            wanted = [Wanted(self.draw.selection.depth, self.table.n_documents, rule.min_rank) for rule in self.rules]
            pools = [
                read_pool(ranked.documents, ranked.scores, rows, below, one)
                for below, one in zip(limits[:, part], wanted, strict=True)
            ]
            short = np.array([(pool.documents[:, -1] < 0) & ~ranked.exhausted for pool in pools])
            if self.scorer is not None:
                self._deepen(self.scorer, pools, short, some, limits[:, part], wanted)
                short[:] = False
            left[:, part] = short
            for number, (rule, pool) in enumerate(zip(self.rules, pools, strict=True)):
                unproven = np.flatnonzero(short[number])
                mined = tally_columns(pool, unproven, some, self.labelled, self.draw, self.table.n_documents)
                columns[number, part] = np.concatenate([mined, dropped_columns(ranked, rule, limits[number, part])], axis=1)
        return columns, left

    def _deepen(
        self,
        scorer: Scorer,
        pools: Sequence[Pool],
        short: BoolArray,
        samples: Samples,
        limits: FloatArray,
        wanted: Sequence[Wanted],
    ) -> None:
        """Put the survivors of samples that the table leaves short, `short` (n_rules, s), into the pools of the rules.

        Rules that want the same are searched for at once: a sample's limits share the product with all documents.
        """
        for ranks in sorted({one.min_rank for one in wanted}):
            chosen = np.flatnonzero([one.min_rank == ranks for one in wanted])
            numbers, rows = np.nonzero(short[chosen])
            if not len(rows):
                continue
            unique, place = np.unique(rows, return_inverse=True)
            some = samples.take(unique)
            known = _known_only(some, self.labelled, self.table)
            below, depth = limits[chosen[numbers], rows], self.table.documents.shape[1]
            found = deepen(_RowScorer(scorer, some.queries), known, place.astype(np.int32), below, wanted[chosen[0]], depth)
            for number, rule in enumerate(chosen.tolist()):
                mine = np.flatnonzero(numbers == number)
                pools[rule].put(rows[mine], found.take(mine))


def _known_only(samples: Samples, labelled: Labelled, table: Table) -> Exclusions:
    """Return the exclusions of each sample when its hidden positives are not known."""
    taken = table.exclusions.take(samples.queries)
    lengths = np.diff(taken.offsets)
    owner = np.repeat(np.arange(len(samples)), lengths)
    one = samples.take(owner)
    keep = ~is_hidden(one, labelled, taken.documents[:, None], table.n_documents)[:, 0]
    offsets = row_offsets(np.bincount(owner[keep], minlength=len(samples)))
    return Exclusions(offsets, taken.documents[keep], taken.reasons[keep])
