"""What mining with one rule gave, counted: which negatives are hidden positives, how hard and how deep they are."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from nv_retriever.audit.intervals import Counts
from nv_retriever.audit.ranked import Ranked
from nv_retriever.audit.samples import BoolArray, Labelled, Samples
from nv_retriever.mining.pool import count_prefix
from nv_retriever.mining.randomness import IdKeys, Keys, mix
from nv_retriever.mining.rules.base import Rule
from nv_retriever.mining.selection import Selection
from nv_retriever.mining.types import Pool
from nv_retriever.search.types import FloatArray, IntArray

WINDOW = 50
"""Candidates over which the drop rate is taken, as in the published comparisons of teachers."""


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


COLUMNS = len(fields(Tally))
"""Columns of a matrix with a row a sample, in the order of the tally's fields."""
DROPPED = [field.name for field in fields(Tally)].index("dropped")
"""The columns from here on are about the first candidates, whatever the rule chooses."""


@dataclass(frozen=True)
class Draw:
    """How negatives are taken from the survivors, and the ids' keys that a random draw depends on."""

    selection: Selection
    seed: int
    keys: IdKeys
    query_rows: IntArray | None = None
    """Which of the keys' queries the samples' queries index; all of them by default."""


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


def tally_columns(
    pool: Pool,
    unproven: npt.NDArray[np.intp],
    samples: Samples,
    labelled: Labelled,
    draw: Draw,
    n_documents: int,
) -> Counts:
    """Return the columns of a tally up to `ranks`, (n_samples, DROPPED)."""
    documents, scores, ranks = pool.documents, pool.scores, pool.ranks
    if draw.selection.window is not None:
        documents = documents.copy()
        documents[unproven] = -1

    def randoms() -> Keys:
        """Return a random number of each (query, document), shape of `documents`."""
        keys = draw.keys.documents[np.maximum(documents, 0)]
        rows = samples.queries if draw.query_rows is None else draw.query_rows[samples.queries]
        return mix(draw.seed, draw.keys.queries[rows][:, None], keys)

    order = draw.selection.order(np.where(documents >= 0, scores, np.float32(np.nan)), randoms)
    if order is not None:
        documents = np.take_along_axis(documents, order, axis=1)
        scores, ranks = np.take_along_axis(scores, order, axis=1), np.take_along_axis(ranks, order, axis=1)
    taken = slice(draw.selection.count)
    documents, scores, ranks = documents[:, taken], scores[:, taken], ranks[:, taken]
    there = documents >= 0
    gaps = samples.scores[:, None].astype(np.float64) - scores
    hidden = is_hidden(samples, labelled, documents, n_documents)
    of_samples = [np.ones(len(samples)), there[:, -1], np.isin(np.arange(len(samples)), unproven)]
    of_negatives = [values.sum(axis=1) for values in (there, hidden, np.where(there, gaps, 0), np.where(there, ranks, 0))]
    return np.stack([*of_samples, *of_negatives], axis=1)


def dropped_columns(ranked: Ranked, rule: Rule, limits: FloatArray) -> Counts:
    """Return how many of each sample's first candidates the rule rejects, and how many there are, (n_samples, 2)."""
    first = ranked.scores[:, :WINDOW]
    rows = np.arange(len(limits))
    seen = np.isfinite(first).sum(axis=1)
    rejected = np.maximum(count_prefix(np.ascontiguousarray(first), rows, limits), rule.min_rank - 1)
    return np.stack([np.minimum(rejected, seen), seen], axis=1).astype(np.float64)


def by_query(queries: IntArray, columns: Counts) -> Tally:
    """Return the sums over each query's samples, which lie together."""
    starts = np.flatnonzero(np.diff(queries, prepend=-1))
    sums = np.add.reduceat(columns, starts, axis=0) if len(starts) else columns[:0]
    return Tally(*sums.T)
