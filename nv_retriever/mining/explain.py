"""Why this negative, why not that one: every candidate of a query down to the last kept one, with all that decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from nv_retriever.errors import InputError
from nv_retriever.mining.config import MiningConfig
from nv_retriever.mining.explain_rows import Row, View, relabelled_rows
from nv_retriever.mining.miner import Miner
from nv_retriever.mining.randomness import IdKeys
from nv_retriever.mining.shortfall import reason_text
from nv_retriever.mining.teachers import OpenScorer, plan_of, samples_of, teachers_of
from nv_retriever.mining.vetoes import open_vetoes
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.types import IntArray

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset


@dataclass(frozen=True)
class Explanation:
    """All rows of a query, by positive and teacher, excluded documents first, then by rank."""

    query_id: str
    query: str
    rule: str
    selection: str
    positives: dict[str, str]
    """{positive id: text}."""
    relabelled: dict[str, str]
    """The same of what the judge called a positive; its rows are the negatives of the sample that asked about it."""
    short: dict[str, str]
    """{positive id: reason} of the samples with fewer rule-abiding negatives than wanted."""
    rows: tuple[Row, ...]
    document_id: str | None = None
    """The one document that was asked about, if any: there are no rows of others."""


def explain(
    dataset: Dataset,
    split: str,
    candidates: Sequence[Candidates],
    config: MiningConfig,
    query_id: str,
    *,
    seed: int = 0,
    open_scorer: OpenScorer | None = None,
    verdicts: Path | None = None,
    document_id: str | None = None,
) -> Explanation:
    """Mine one query again and say what decided about every document; raises InputError for an unknown query or document.

    Without `open_scorer` samples that the tables leave short stay short. `verdicts` is the judge's cache. With `document_id`
    there is one row a labelled positive and teacher: that document's, wherever it lies.
    """
    document = None if document_id is None else _find_document(document_id, dataset)
    plan = plan_of(config, seed)
    samples = samples_of(candidates)
    teachers = teachers_of(candidates, plan, config.anchor, open_scorer)
    ids = dataset.query_ids[dataset.query_rows(split)]
    query = _find(ids, query_id, split, dataset)
    rows = np.flatnonzero(samples.queries == query)
    with TemporaryDirectory() as folder:
        cache = verdicts or Path(folder) / "verdicts.sqlite"
        vetoes = open_vetoes(config, dataset, split, samples, teachers, cache)
        keys = IdKeys(lambda: ids, lambda: dataset.document_ids)
        miner = Miner(samples, teachers, plan, keys, vetoes.of_pools, vetoes.of_choices)
        choice, served = miner.mine(rows), miner.serving(rows)
        added = vetoes.relabelled(int(rows[0]), choice, samples, teachers)
    told: list[Row] = []
    for i, sample in enumerate(rows.tolist()):
        own = choice.take(np.array([i]))
        for number in np.flatnonzero(served[:, i]).tolist():
            view = View(miner, teachers[number], number, sample, query, own, vetoes, dataset)
            seen = view.excluded(candidates[number]) + view.candidates()
            if document is not None:
                seen = [row for row in seen if row.document_id == document_id] or [view.beyond(document)]
            told += seen
    told += [row for row in relabelled_rows(added, dataset) if document_id in (None, row.document_id)]
    positives = _texts_by_id(dataset, samples.positives[rows])
    short = zip(positives, choice.short.tolist(), strict=True)
    return Explanation(
        query_id=query_id,
        query=dataset.query_texts(dataset.query_rows(split)[[query]])[0],
        rule=plan.rule.name,
        selection=plan.selection.name,
        positives=positives,
        relabelled=_texts_by_id(dataset, added.samples.positives),
        short={positive: reason_text(code, plan.shortfall) for positive, code in short if code},
        rows=tuple(told),
        document_id=document_id,
    )


def _texts_by_id(dataset: Dataset, documents: IntArray) -> dict[str, str]:
    return dict(zip(dataset.document_ids[documents].tolist(), dataset.document_texts(documents), strict=True))


def _find_document(document_id: str, dataset: Dataset) -> int:
    found = np.flatnonzero(dataset.document_ids == document_id)
    if not len(found):
        known = ", ".join(map(repr, dataset.document_ids[:3].tolist()))
        raise InputError(f"document {document_id!r}", f"the id of a document, such as {known}", "no such document")
    return int(found[0])


def _find(ids: np.ndarray, query_id: str, split: str, dataset: Dataset) -> int:
    found = np.flatnonzero(ids == query_id)
    if not len(found):
        known = ", ".join(map(repr, ids[:3].tolist()))
        where = [other for other in dataset.splits if query_id in dataset.query_ids[dataset.query_rows(other)]]
        there = f"one of {', '.join(where)} (--split)" if where else "no such query"
        raise InputError(f"query {query_id!r}", f"a query of split {split} with a positive, such as {known}", there)
    return int(found[0])
