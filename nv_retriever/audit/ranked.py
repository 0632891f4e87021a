"""The ranked candidates that a miner would see if it knew one positive of a query, and no other label.

No search is needed: the candidate table holds the best allowed documents of every query, and every document that its
labels exclude was scored directly, so the hidden ones are put back at their own scores. A hidden document below the last
row of a full table is left out: unknown documents may lie between, so the table proves nothing about its rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nv_retriever.audit.samples import BoolArray, Labelled, Samples
from nv_retriever.mining.rules.base import Rule
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.types import Exclusions, FloatArray, IntArray


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

    @classmethod
    def of(cls, candidates: Candidates) -> Table:
        """Return a stored candidate table as an audit reads it."""
        return cls(
            candidates.documents,
            candidates.scores,
            candidates.exhausted,
            candidates.exclusions,
            candidates.n_documents,
            candidates.split_positives.scores,
        )

    def limits(self, rule: Rule, samples: Samples) -> FloatArray:
        """Return the limits that samples have in the run, (s,)."""
        anchors = np.sort(self.anchors)
        at = np.minimum(np.searchsorted(anchors, samples.scores), max(len(anchors) - 1, 0))
        found: FloatArray = rule.limits(anchors)[at]
        return found


@dataclass(frozen=True)
class Ranked:
    """The candidates of some samples in rank order, hidden positives among them; column j has rank j + 1."""

    documents: IntArray
    """(n, width), -1 padded."""
    scores: FloatArray
    """(n, width), descending, NaN padded."""
    hidden: BoolArray
    """(n, width): a positive whose label is hidden, or its duplicate."""
    exhausted: BoolArray
    """(n,): nothing lies below the last column, the corpus ends here."""


def rank(samples: Samples, labelled: Labelled, table: Table) -> Ranked:
    """Return the candidates of each sample as a miner would rank them that knows the visible positive only.

    Order: score, then document row.
    """
    documents, scores = table.documents[samples.queries], table.scores[samples.queries]
    ended = table.exhausted[samples.queries]
    starts = labelled.offsets[samples.queries]
    lengths = labelled.offsets[samples.queries + 1] - starts
    columns = np.arange(int(lengths.max(initial=0)))
    there = columns < lengths[:, None]
    rows = np.where(there, starts[:, None] + columns, 0)
    hidden_documents, hidden_scores = labelled.documents[rows], labelled.scores[rows]
    back = there & np.isfinite(hidden_scores) & (labelled.groups[rows] != samples.groups[:, None])
    if documents.shape[1]:
        floor, last = scores[:, -1:], documents[:, -1:]
        above = (hidden_scores > floor) | ((hidden_scores == floor) & (hidden_documents < last))
        back &= above | ended[:, None]
    else:
        back &= ended[:, None]
    hidden = np.concatenate([np.zeros_like(documents, dtype=bool), back], axis=1)
    documents = np.concatenate([documents, np.where(back, hidden_documents, -1)], axis=1)
    scores = np.concatenate([scores, np.where(back, hidden_scores, np.nan)], axis=1)
    order = np.lexsort((documents, -scores), axis=1)
    order = order[:, : int((documents >= 0).sum(axis=1).max(initial=0))]
    documents, scores, hidden = (np.take_along_axis(values, order, axis=1) for values in (documents, scores, hidden))
    return Ranked(documents, scores, hidden, ended)


def ranked_blocks(samples: Samples, labelled: Labelled, table: Table) -> Iterator[tuple[slice, Samples, Ranked]]:
    """Yield (place among the samples, samples, their ranked candidates), as many at once as memory holds."""
    width = table.documents.shape[1] + int(np.diff(labelled.offsets).max(initial=0))
    for part in blocks(len(samples), width):
        some = samples.take(part)
        yield part, some, rank(some, labelled, table)


def blocks(n: int, width: int, cells: int = 1 << 21) -> Iterator[slice]:
    """Yield slices of rows so that rows x width stays near `cells`."""
    step = max(1, cells // max(width, 1))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
