"""Why this negative, why not that one: every candidate of a query down to the last kept one, with all that decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from nv_retriever.errors import InputError
from nv_retriever.mining.config import MiningConfig
from nv_retriever.mining.miner import Miner
from nv_retriever.mining.randomness import IdKeys
from nv_retriever.mining.shortfall import reason_text
from nv_retriever.mining.teachers import OpenScorer, plan_of, samples_of, teachers_of
from nv_retriever.mining.types import Choice, Teacher, Why
from nv_retriever.mining.vetoes import Vetoes, open_vetoes
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.types import Reason

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset

_REASONS = {
    Reason.POSITIVE: "labelled positive",
    Reason.DUPLICATE: "content of a positive",
    Reason.QUERY_ID: "id of the query",
    Reason.QUERY_TEXT: "text of the query",
    Reason.SAME_QUERY: "positive of the same query text",
}


@dataclass(frozen=True)
class Row:
    """One document in the view of one (query, positive) sample and one teacher."""

    positive_id: str
    teacher: str
    document_id: str
    rank: int | None
    """Over all allowed documents, from 1; None for excluded and randomly drawn ones."""
    score: float | None
    anchor: float
    """The positive score that the rule compares with."""
    limit: float | None
    """A candidate has to score below it; None where the rule sets none."""
    position: int | None
    """Place among the sample's negatives, from 0; None where it is none."""
    outcome: str
    """`kept`, `deepened`, `relaxed`, `random`, or why it is no negative."""
    judge: str | None = None
    """The judge's verdict, where it was asked."""
    text: str = ""


@dataclass(frozen=True)
class Explanation:
    """All rows of a query, by positive and teacher, excluded documents first, then by rank."""

    query_id: str
    query: str
    rule: str
    selection: str
    positives: dict[str, str]
    """{positive id: text}."""
    short: dict[str, str]
    """{positive id: reason} of the samples with fewer rule-abiding negatives than wanted."""
    rows: tuple[Row, ...]


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
) -> Explanation:
    """Mine one query again and say what decided about every document; raises InputError for an unknown query.

    Without `open_scorer` samples that the tables leave short stay short. `verdicts` is the judge's cache.
    """
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
        choice, served = miner.of_samples(rows), miner.seats_of(rows)
    told: list[Row] = []
    for i, sample in enumerate(rows.tolist()):
        for number in np.flatnonzero(served[:, i]).tolist():
            view = _View(miner, teachers[number], number, sample, query, vetoes)
            told += view.excluded(candidates[number], dataset) + view.candidates(choice.take(np.array([i])), dataset)
    names = [str(dataset.document_ids[samples.positives[sample]]) for sample in rows.tolist()]
    return Explanation(
        query_id=query_id,
        query=dataset.query_texts(dataset.query_rows(split)[[query]])[0],
        rule=plan.rule.name,
        selection=plan.selection.name,
        positives=dict(zip(names, dataset.document_texts(samples.positives[rows]), strict=True)),
        short={
            name: reason_text(code, plan.shortfall) for name, code in zip(names, choice.short.tolist(), strict=True) if code
        },
        rows=tuple(told),
    )


def _find(ids: np.ndarray, query_id: str, split: str, dataset: Dataset) -> int:
    found = np.flatnonzero(ids == query_id)
    if not len(found):
        known = ", ".join(map(repr, ids[:3].tolist()))
        where = [other for other in dataset.splits if query_id in dataset.query_ids[dataset.query_rows(other)]]
        there = f"one of {', '.join(where)} (--split)" if where else "no such query"
        raise InputError(f"query {query_id!r}", f"a query of split {split} with a positive, such as {known}", there)
    return int(found[0])


@dataclass(frozen=True)
class _View:
    """One sample as one teacher sees it."""

    miner: Miner
    teacher: Teacher
    number: int
    sample: int
    query: int
    vetoes: Vetoes

    def excluded(self, table: Candidates, dataset: Dataset) -> list[Row]:
        """Return the documents that were never candidates, by score."""
        all_of = table.excluded
        part = slice(int(all_of.offsets[self.query]), int(all_of.offsets[self.query + 1]))
        columns = all_of.documents[part], all_of.scores[part], all_of.reasons[part]
        order = np.argsort(-columns[1], kind="stable")
        told = [
            self._row(dataset, document, None, score, f"excluded: {_REASONS[Reason(reason)]}")
            for document, score, reason in zip(*(column[order].tolist() for column in columns), strict=True)
        ]
        return _with_texts(told, columns[0][order], dataset)

    def candidates(self, choice: Choice, dataset: Dataset) -> list[Row]:
        """Return the candidates down to the last one that was looked at, then what was drawn at random."""
        mine = np.flatnonzero((choice.documents[0] >= 0) & (choice.teachers[0] == self.number))
        places = {int(choice.documents[0, j]): (j, Why(choice.reasons[0, j]).text) for j in mine.tolist()}
        last = int(choice.ranks[0, mine].max(initial=0))
        if choice.short[0]:
            last = max(last, min(int(choice.depth[0]), len(self.teacher.documents[self.query])))
        documents, scores = self._ranked(last)
        seen = set(documents.tolist())
        random = [j for j in mine.tolist() if int(choice.documents[0, j]) not in seen]
        told = []
        outcomes = self._outcomes(documents, scores)
        if choice.short[0] and self.miner.plan.shortfall == "drop":
            outcomes = ["dropped with its sample" if outcome == "not chosen" else outcome for outcome in outcomes]
        for i, document in enumerate(documents.tolist()):
            position, outcome = places.get(document, (None, outcomes[i]))
            told.append(self._row(dataset, document, i + 1, float(scores[i]), outcome, position))
        for j in random:
            document = int(choice.documents[0, j])
            told.append(self._row(dataset, document, None, float(choice.scores[0, j]), places[document][1], j))
        return _with_texts(told, np.r_[documents, choice.documents[0, random]], dataset)

    def _ranked(self, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the `last` best allowed documents and their scores: from the table, or by a search where that is short."""
        documents, scores = self.teacher.documents[self.query], self.teacher.scores[self.query]
        if last > len(documents) and self.teacher.scorer is not None:
            query = np.array([self.query])
            found = self.teacher.scorer().search(query, last, self.teacher.exclusions().take(query))
            documents, scores = found.documents[0], found.scores[0]
        there = np.flatnonzero(documents[:last] >= 0)
        return documents[there], scores[there]

    def _outcomes(self, documents: np.ndarray, scores: np.ndarray) -> list[str]:
        """Say why each candidate would not be a negative, in the order in which the miner decides."""
        plan, number = self.miner.plan, len(documents)
        pairs = np.full(number, self.sample), np.full(number, self.query, np.int32), documents
        guards = self.vetoes.hidden, self.vetoes.near_duplicates
        hidden, near = (np.zeros(number, bool) if guard is None or not number else guard(*pairs) for guard in guards)
        outcomes = []
        for i, document in enumerate(documents.tolist()):
            judged = self._verdict(document)
            if scores[i] >= self.teacher.limits[self.sample]:
                outcomes.append("at or above the limit")
            elif i + 1 < plan.rule.min_rank:
                outcomes.append(f"rank before {plan.rule.min_rank}")
            elif scores[i] < plan.floor:
                outcomes.append("below min_score")
            elif hidden[i]:
                outcomes.append("hidden positive (oracle)")
            elif near[i]:
                outcomes.append("near-duplicate of a positive")
            else:
                outcomes.append("judged away" if judged not in (None, "keep") else "not chosen")
        return outcomes

    def _verdict(self, document: int) -> str | None:
        """Return the verdict on this sample, else one that took the document away from the query's other samples."""
        if self.vetoes.judged is None:
            return None
        verdicts = self.vetoes.judged.verdicts
        own = verdicts.get((self.sample, document))
        others = [v.verdict for (s, d), v in verdicts.items() if d == document and v.verdict != "keep"]
        return own.verdict if own is not None and (own.verdict != "keep" or not others) else (others[0] if others else None)

    def _row(
        self, dataset: Dataset, document: int, rank: int | None, score: float, outcome: str, position: int | None = None
    ) -> Row:
        limit = float(self.teacher.limits[self.sample])
        return Row(
            positive_id=str(dataset.document_ids[self.miner.samples.positives[self.sample]]),
            teacher=self.teacher.name,
            document_id=str(dataset.document_ids[document]),
            rank=rank,
            score=float(score) if np.isfinite(score) else None,
            anchor=float(self.teacher.anchors[self.sample]),
            limit=limit if np.isfinite(limit) else None,
            position=position,
            outcome=outcome,
            judge=self._verdict(document),
        )


def _with_texts(rows: list[Row], documents: np.ndarray, dataset: Dataset) -> list[Row]:
    texts = dataset.document_texts(documents.astype(np.int64))
    return [replace(row, text=text) for row, text in zip(rows, texts, strict=True)]
