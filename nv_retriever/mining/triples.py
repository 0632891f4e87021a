"""The miner's arrays as rows with ids: the columns of the `triples` and `shortfalls` tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nv_retriever.mining.shortfall import reason_text
from nv_retriever.mining.types import Choice, Samples, ShortReason, Teacher, TripleReason

TRIPLES = pa.schema(
    [
        ("run_id", pa.string()),
        ("query_id", pa.string()),
        ("positive_id", pa.string()),
        ("negative_id", pa.string()),
        ("position", pa.int32()),
        ("teacher", pa.string()),
        ("rank", pa.int64()),
        ("positive_score", pa.float32()),
        ("negative_score", pa.float32()),
        ("score_kind", pa.string()),
        ("limit_score", pa.float32()),
        ("reason", pa.string()),
    ]
)
"""`rank` is NULL for random negatives, which were never ranked; `limit_score` where the rule sets no limit."""

SHORTFALL = pa.schema(
    [
        ("query_id", pa.string()),
        ("positive_id", pa.string()),
        ("wanted", pa.int32()),
        ("found", pa.int32()),
        ("written", pa.int32()),
        ("depth", pa.int64()),
        ("reason", pa.string()),
    ]
)
"""`found` negatives abide by the rule, `written` count what filled places too, `depth` is how many allowed documents
were looked at: where the reason is `exhausted`, the corpus has no more below the limit."""

Ids = npt.NDArray[np.object_]


def triples_table(
    run_id: str, start: int, choice: Choice, samples: Samples, teachers: Sequence[Teacher], queries: Ids, documents: Ids
) -> pa.Table:
    """Return the negatives of the samples from `start` on, by sample, then position.

    `queries` (n_queries of the tables,) and `documents` (n_documents,) are ids.
    """
    row, position = np.nonzero(choice.documents >= 0)
    sample = start + row
    teacher = choice.teachers[row, position].astype(np.intp)
    number = np.arange(len(teachers))[:, None] == teacher
    positive = np.select(list(number), [t.positive_scores[sample] for t in teachers], np.float32(np.nan))
    limit = np.select(list(number), [t.limits[sample] for t in teachers], np.float32(np.nan))
    rank = choice.ranks[row, position]
    columns = [
        pa.repeat(pa.scalar(run_id, pa.string()), len(row)),
        _strings(queries, samples.queries[sample]),
        _strings(documents, samples.positives[sample]),
        _strings(documents, choice.documents[row, position]),
        pa.array(position.astype(np.int32)),
        _strings(np.array([t.name for t in teachers], object), teacher),
        pa.array(rank, mask=rank == 0),
        pa.array(positive.astype(np.float32)),
        pa.array(choice.scores[row, position]),
        _strings(np.array([t.score_kind for t in teachers], object), teacher),
        pa.array(limit.astype(np.float32), mask=~np.isfinite(limit)),
        _strings(np.array(["", *(reason.text for reason in TripleReason)], object), choice.reasons[row, position]),
    ]
    return pa.Table.from_arrays(columns, schema=TRIPLES)


def _strings(values: Ids, rows: npt.NDArray[np.integer]) -> pa.Array:
    """Return some values; where many are wanted, Arrow copies their bytes faster than numpy copies the objects."""
    if len(values) <= len(rows):
        return pa.array(values, pa.string()).take(pa.array(rows))
    return pa.array(values[rows], pa.string())


def shortfall_table(start: int, choice: Choice, samples: Samples, policy: str, queries: Ids, documents: Ids) -> pa.Table:
    """Return the samples for which fewer rule-abiding negatives were found than wanted, and why."""
    row = np.flatnonzero(choice.short != ShortReason.NONE)
    written = (choice.documents[row] >= 0).sum(axis=1).astype(np.int32)
    reasons = [reason_text(value, policy) for value in choice.short[row].tolist()]
    columns = [
        pa.array(queries[samples.queries[start + row]], pa.string()),
        pa.array(documents[samples.positives[start + row]], pa.string()),
        pa.array(np.full(len(row), choice.documents.shape[1], np.int32)),
        pa.array(choice.found[row]),
        pa.array(written),
        pa.array(choice.depth[row]),
        pa.array(reasons, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SHORTFALL)
