"""Agreement with judges: of what a rule keeps and rejects, how much was judged not relevant, and how much relevant?

Judged negatives (labels below the data set's minimum grade) are what a miner should keep; hidden positives are what it
should reject. Only documents that the candidate table, or the positives' own scores, reach are counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.audit.intervals import Counts, clustered_rate
from nv_retriever.audit.ranked import Ranked, Table, ranked_blocks
from nv_retriever.audit.rows import clean
from nv_retriever.audit.samples import BoolArray, Labelled, Samples
from nv_retriever.data.dataset import Dataset
from nv_retriever.mining.rules.base import Rule
from nv_retriever.search.types import IntArray


@dataclass(frozen=True)
class Agreement:
    """One rule against the judges; shares are NaN where nothing was judged."""

    rule: str
    samples: int
    nonrelevant: int
    """Judged non-relevant candidates within reach, over the samples."""
    nonrelevant_kept: float
    """Share of them that the rule keeps: high is good."""
    nonrelevant_low: float
    nonrelevant_high: float
    relevant: int
    """Hidden positives within reach."""
    relevant_rejected: float
    """Share of them that the rule rejects: high is good."""
    relevant_low: float
    relevant_high: float
    balanced: float
    """Mean of the two shares: 0.5 is chance (keeping all, or nothing)."""
    mined_nonrelevant: int
    """Mined negatives that were judged not relevant."""
    mined_relevant: int
    """Mined negatives that were judged relevant: false."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {key: clean(value) for key, value in asdict(self).items()}


def judged_keys(dataset: Dataset, split: str) -> npt.NDArray[np.int64]:
    """Return the sorted keys query * n_documents + document of the split's judged negatives, (n,)."""
    labels = dataset.qrels(split)
    negative = labels.where(labels.grades < dataset.min_grade)
    rows = dataset.query_rows(split)
    at = np.minimum(np.searchsorted(rows, negative.query_rows), max(len(rows) - 1, 0))
    there: BoolArray = rows[at] == negative.query_rows if len(rows) else np.zeros(len(negative), bool)
    return np.unique(at[there] * dataset.n_documents + negative.document_rows[there])


def agreement(
    samples: Samples,
    labelled: Labelled,
    table: Table,
    nonrelevant: npt.NDArray[np.int64],
    rules: Sequence[Rule],
    negatives: int,
    confidence: float,
) -> list[Agreement]:
    """Return each rule's agreement over the samples; `nonrelevant` are `judged_keys`, the hardest `negatives` are mined."""
    limits = [table.limits(rule, samples) for rule in rules]
    columns = np.zeros((len(rules), len(samples), 6))
    for part, some, ranked in ranked_blocks(samples, labelled, table):
        judged = _is_judged(some, ranked, nonrelevant, table.n_documents)
        ranks = np.arange(1, ranked.scores.shape[1] + 1)
        for number, rule in enumerate(rules):
            kept = (ranked.scores < limits[number][part][:, None]) & (ranks >= rule.min_rank)
            mined = kept & (np.cumsum(kept, axis=1) <= negatives)
            masks = (judged, judged & kept, ranked.hidden, ranked.hidden & ~kept, mined & judged, mined & ranked.hidden)
            columns[number, part] = np.stack([mask.sum(axis=1) for mask in masks], axis=1)
    starts = np.flatnonzero(np.diff(samples.queries, prepend=-1))
    return [
        _summary(rule, np.add.reduceat(sums, starts, axis=0) if len(starts) else sums, confidence, len(samples))
        for rule, sums in zip(rules, columns, strict=True)
    ]


def _is_judged(samples: Samples, ranked: Ranked, nonrelevant: npt.NDArray[np.int64], n_documents: int) -> BoolArray:
    keys = samples.queries.astype(np.int64)[:, None] * n_documents + ranked.documents
    judged: BoolArray = np.isin(keys, nonrelevant) & (ranked.documents >= 0)
    return judged


def _summary(rule: Rule, sums: Counts, confidence: float, samples: int) -> Agreement:
    kept = clustered_rate(sums[:, 1], sums[:, 0], confidence)
    rejected = clustered_rate(sums[:, 3], sums[:, 2], confidence)
    totals = [round(float(value)) for value in sums.sum(axis=0)]
    both = (kept.value + rejected.value) / 2
    return Agreement(
        rule=rule.name,
        samples=samples,
        nonrelevant=totals[0],
        nonrelevant_kept=kept.value,
        nonrelevant_low=kept.low,
        nonrelevant_high=kept.high,
        relevant=totals[2],
        relevant_rejected=rejected.value,
        relevant_low=rejected.low,
        relevant_high=rejected.high,
        balanced=both if math.isfinite(both) else math.nan,
        mined_nonrelevant=totals[4],
        mined_relevant=totals[5],
    )


def separation(samples: Samples, table: Table, nonrelevant: npt.NDArray[np.int64]) -> tuple[float, int]:
    """Return how often the teacher scores a positive above a judged negative of its query, and over how many pairs.

    The area under the ROC curve within queries, ties counted half: 0.5 is chance. Judged negatives below the table count
    as below its last score, and as tied with positives that lie below it too: left out, these would flatter the teacher.
    Where the table reaches the corpus's end, what it lacks has no score and no pairs.
    """
    wins = pairs = 0.0
    documents, queries = nonrelevant % table.n_documents, nonrelevant // table.n_documents
    for row in range(len(samples)):
        query = int(samples.queries[row])
        judged = documents[np.searchsorted(queries, query) : np.searchsorted(queries, query, side="right")]
        judged = judged[~np.isin(judged, _excluded(table, query))]
        scores, score = table.scores[query][np.isin(table.documents[query], judged)], samples.scores[row]
        below = 0 if table.exhausted[query] else len(judged) - len(scores)
        inside = bool(table.scores.shape[1]) and score >= table.scores[query, -1]
        wins += float((score > scores).sum()) + 0.5 * float((score == scores).sum()) + below * (1.0 if inside else 0.5)
        pairs += len(scores) + below
    return (wins / pairs if pairs else math.nan), round(pairs)


def _excluded(table: Table, query: int) -> IntArray:
    offsets = table.exclusions.offsets
    return table.exclusions.documents[offsets[query] : offsets[query + 1]]
